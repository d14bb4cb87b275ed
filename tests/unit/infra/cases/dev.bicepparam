using '../../../../infra/main.bicep'

// Beside `prod` in one subscription: as azd deploys it when nothing is chosen.
param environmentName = 'dev'
param location = 'eastus'
param alertEmail = 'ops@example.org'
param budgetStart = '2026-11-01'
