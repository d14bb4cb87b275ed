using '../../../../infra/main.bicep'

// Every switch is on, and both images are built.
param environmentName = 'Every.thing_(1)'
param location = 'eastus'
param alertEmail = 'ops@example.org'
param budgetStart = '2026-11-01'
param skypilotImage = 'crexample.azurecr.io/gpulaunch/skypilot:1'
param skypilotMinReplicas = 0
param skypilotUserId = '0123abcd'
param ownGateway = true
param gatewayImage = 'crexample.azurecr.io/gpulaunch/gateway:1'
param gatewayMinReplicas = 0
param gatewayMaxReplicas = 10
param gatewayDomain = 'llm.example.org'
param instanceMemoryMB = 512
param maximumInstances = 100
param alwaysReadyHttp = 1
param useHubToken = true
param useWebhooks = true
param r2Endpoint = 'https://example.r2.cloudflarestorage.com'
param s3Region = 'us-east-1'
param moreSettings = base64('{"GPULAUNCH_WORKSPACE": "team", "GPULAUNCH_MAX_INSTANCES": "20"}')
param testAvailability = true
param nodeSubscriptionId = '33333333-3333-3333-3333-333333333333'
