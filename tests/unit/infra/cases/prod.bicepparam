using '../../../../infra/main.bicep'

// Beside `dev` in one subscription: with endpoints, as azd deploys it the first time, when no image is built.
param environmentName = 'prod'
param location = 'eastus'
param alertEmail = 'ops@example.org'
param budgetStart = '2026-11-01'
param ownGateway = true
