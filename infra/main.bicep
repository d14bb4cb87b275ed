targetScope = 'subscription'

@description('Name of the environment; part of every resource name.')
@minLength(1)
@maxLength(24)
param environmentName string

@description('Region of the control plane. A launch chooses the regions of its nodes.')
@metadata({ azd: { type: 'location' } })
param location string

@description('E-mail address for alerts and budget notices.')
param alertEmail string

@description('Monthly budget of the whole subscription, nodes included, in its billing currency.')
@minValue(1)
param monthlyBudget int = 500

@description('First day of the month in which the budget begins, such as 2026-11-01. Azure does not allow changing it later.')
@minLength(10)
@maxLength(10)
param budgetStart string

@description('Deploy a SkyPilot API server. If false, skypilotEndpoint is the URL of an existing one.')
param ownSkyPilot bool = true

@description('Address of an existing API server, such as https://sky.example.org. Its token goes into the vault as skypilot-token.')
param skypilotEndpoint string = ''

@description('Image of the API server. SkyPilot\'s own image runs until `azd deploy` has built this project\'s.')
param skypilotImage string = 'docker.io/berkeleyskypilot/skypilot:0.14.1'

@description('0 stops the API server while it is not used: the next launch waits for it to start. 1 keeps it running.')
@minValue(0)
@maxValue(1)
param skypilotMinReplicas int = 1

@description('SkyPilot\'s user, eight hexadecimal digits; part of every cluster\'s name in the cloud. Empty: derived from the environment.')
@maxLength(8)
param skypilotUserId string = ''

@description('Memory of one instance of the app.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Read hub-token from the vault, for gated models on the Hugging Face Hub.')
param useHubToken bool = false

@description('URL of the Cloudflare R2 account. If set, the vault must hold r2-access-key-id and r2-secret-access-key.')
param r2Endpoint string = ''

@description('Region of S3. If set, the vault must hold s3-access-key-id and s3-secret-access-key.')
param s3Region string = ''

@description('Additional settings of the app, as a JSON object without secrets; in base64, which survives azd\'s parameter file.')
param moreSettings string = ''

@description('Password of the state database. Every deployment generates a new one and sets it in the server, the vault and the API server together.')
@secure()
// checkov:skip=CKV_AZURE_131: a new GUID per deployment is not a hard-coded value
param databasePassword string = newGuid()

var token = uniqueString(subscription().id, environmentName, location)
// The first eight characters of a GUID are hexadecimal digits. Two environments never share them.
var userId = empty(skypilotUserId) ? take(guid(subscription().id, environmentName, location), 8) : skypilotUserId
var tags = { 'azd-env-name': environmentName }

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    alertEmail: alertEmail
  }
}

module identities 'modules/identities.bicep' = {
  name: 'identities'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    ownSkyPilot: ownSkyPilot
  }
}

module network 'modules/network.bicep' = {
  name: 'network'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    ownSkyPilot: ownSkyPilot
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    appSubnetId: network.outputs.appSubnetId
    appPrincipalId: identities.outputs.appPrincipalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    subnetIds: [network.outputs.appSubnetId]
    readers: [identities.outputs.appPrincipalId]
    writers: []
    workspaceId: monitoring.outputs.workspaceId
  }
}

// A separate vault: the API server writes its token here and must not read the app's secrets.
module skypilotVault 'modules/vault.bicep' = if (ownSkyPilot) {
  name: 'skypilot-vault'
  scope: group
  params: {
    name: 'kvs-${token}'
    location: location
    tags: tags
    subnetIds: [network.outputs.appSubnetId, network.outputs.serverSubnetId]
    readers: [identities.outputs.appPrincipalId]
    writers: [identities.outputs.skypilotPrincipalId]
    workspaceId: monitoring.outputs.workspaceId
  }
}

module skypilot 'modules/skypilot.bicep' = if (ownSkyPilot) {
  name: 'skypilot'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    image: skypilotImage
    minReplicas: skypilotMinReplicas
    userId: userId
    vnetId: network.outputs.vnetId
    serverSubnetId: network.outputs.serverSubnetId
    databaseSubnetId: network.outputs.databaseSubnetId
    identityId: identities.outputs.skypilotId
    identityClientId: identities.outputs.skypilotClientId
    identityPrincipalId: identities.outputs.skypilotPrincipalId
    vaultName: ownSkyPilot ? skypilotVault.outputs.name : ''
    databasePassword: databasePassword
    workspaceId: monitoring.outputs.workspaceId
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    identityId: identities.outputs.appId
    identityClientId: identities.outputs.appClientId
    identityPrincipalId: identities.outputs.appPrincipalId
    subnetId: network.outputs.appSubnetId
    accountName: storage.outputs.accountName
    packageContainer: storage.outputs.packageContainer
    vaultUri: vault.outputs.uri
    tokenVaultUri: ownSkyPilot ? skypilotVault.outputs.uri : vault.outputs.uri
    insightsName: monitoring.outputs.insightsName
    workspaceId: monitoring.outputs.workspaceId
    skypilotEndpoint: ownSkyPilot ? skypilot.outputs.endpoint : skypilotEndpoint
    skypilotUserId: userId
    instanceMemoryMB: instanceMemoryMB
    useHubToken: useHubToken
    r2Endpoint: r2Endpoint
    s3Region: s3Region
    moreSettings: moreSettings
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles-${token}'
  params: {
    token: token
    appPrincipalId: identities.outputs.appPrincipalId
    skypilotPrincipalId: identities.outputs.skypilotPrincipalId
    ownSkyPilot: ownSkyPilot
  }
}

// At subscription scope: every node has its own resource group.
resource budget 'Microsoft.Consumption/budgets@2023-11-01' = {
  name: 'budget-${environmentName}'
  properties: {
    category: 'Cost'
    amount: monthlyBudget
    timeGrain: 'Monthly'
    timePeriod: { startDate: budgetStart }
    notifications: {
      half: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 50
        thresholdType: 'Actual'
        contactEmails: [alertEmail]
        contactGroups: [monitoring.outputs.actionGroupId]
      }
      spent: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 90
        thresholdType: 'Actual'
        contactEmails: [alertEmail]
        contactGroups: [monitoring.outputs.actionGroupId]
      }
      forecast: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: [alertEmail]
        contactGroups: [monitoring.outputs.actionGroupId]
      }
    }
  }
}

output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_CONTAINER_REGISTRY_ENDPOINT string = ownSkyPilot ? skypilot.outputs.registryEndpoint : ''
output GPULAUNCH_APP_NAME string = app.outputs.name
output GPULAUNCH_URL string = app.outputs.url
output GPULAUNCH_VAULT_NAME string = vault.outputs.name
output GPULAUNCH_TOKEN_VAULT_NAME string = ownSkyPilot ? skypilotVault.outputs.name : vault.outputs.name
output GPULAUNCH_OWN_SKYPILOT bool = ownSkyPilot
output SKYPILOT_USER_ID string = userId
