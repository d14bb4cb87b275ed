using '../../../../infra/main.bicep'

// With an API server that is elsewhere, and nothing else but the app; in a region without zones, on an offer without budgets.
param environmentName = 'existing-server'
param location = 'eastus'
param alertEmail = 'ops@example.org'
param budgetStart = '2026-11-01'
param ownSkyPilot = false
param skypilotEndpoint = 'https://sky.example.org'
param storageSku = 'Standard_LRS'
param monthlyBudget = 0
param lockData = false
