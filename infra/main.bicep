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

@description('Monthly budget of the whole subscription, nodes included, in its billing currency. 0: none, for offers that have no budgets.')
@minValue(0)
param monthlyBudget int = 500

@description('First day of the month in which the budget begins, such as 2026-11-01. Azure does not allow changing it later.')
@minLength(10)
@maxLength(10)
param budgetStart string

@description('Deploy a SkyPilot API server. If false, skypilotEndpoint is the URL of an existing one.')
param ownSkyPilot bool = true

@description('Address of an existing API server, such as https://sky.example.org. Its token goes into the vault as skypilot-token.')
param skypilotEndpoint string = ''

@description('Image of the API server. Empty until `azd deploy` has built it.')
param skypilotImage string = ''

@description('0 stops the API server while it is not used: the next launch waits for it to start. 1 keeps it running.')
@minValue(0)
@maxValue(1)
param skypilotMinReplicas int = 1

@description('Deploy the gateway, the address through which applications reach endpoints.')
param ownGateway bool = false

@description('Image of the gateway. Empty until `azd deploy` has built it.')
param gatewayImage string = ''

@description('0 stops the gateway while it is not used: the next request waits for it to start.')
@minValue(0)
@maxValue(30)
param gatewayMinReplicas int = 1

@description('Each replica is meant for 250 requests at a time.')
@minValue(1)
@maxValue(30)
param gatewayMaxReplicas int = 4

@description('Name for the gateway, such as llm.example.org. Its DNS records have to exist already: docs/azure.md, section Gateway.')
param gatewayDomain string = ''

@description('SkyPilot\'s user, eight hexadecimal digits; part of every cluster\'s name in the cloud. Empty: derived from the environment.')
@maxLength(8)
param skypilotUserId string = ''

@description('Redundancy of the data account. Regions without zones have no Standard_ZRS.')
@allowed(['Standard_ZRS', 'Standard_LRS', 'Standard_GZRS', 'Standard_GRS'])
param storageSku string = 'Standard_ZRS'

@description('Lock the data account, so that neither it nor its group is deleted by mistake; `azd down` then needs the lock removed.')
param lockData bool = true

@description('Call /api/health from outside, every 15 minutes from three places, and alert if two of them get no answer.')
param testAvailability bool = false

@description('Subscription of the nodes, if they are to run in another one than the control plane. Roles and budget go there.')
@maxLength(36)
param nodeSubscriptionId string = ''

@description('Memory of one instance of the app.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Largest number of instances for each group of functions (HTTP, each queue, the timers). Some regions take less than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('Instances that stand by for HTTP calls, so that the first call after a pause waits for no start; they cost by the hour.')
@minValue(0)
@maxValue(10)
param alwaysReadyHttp int = 0

@description('Read hub-token from the vault, for gated models on the Hugging Face Hub.')
param useHubToken bool = false

@description('Read webhook-urls and webhook-secret from the vault, to send alerts.')
param useWebhooks bool = false

@description('URL of the Cloudflare R2 account. If set, the vault must hold r2-access-key-id and r2-secret-access-key.')
param r2Endpoint string = ''

@description('Region of S3. If set, the vault must hold s3-access-key-id and s3-secret-access-key.')
param s3Region string = ''

@description('Additional settings of the app, as a JSON object without secrets; in base64, which survives azd\'s parameter file.')
param moreSettings string = ''

var token = uniqueString(subscription().id, environmentName, location)
// The first eight characters of a GUID are hexadecimal digits. Two environments never share them.
var userId = empty(skypilotUserId) ? take(guid(subscription().id, environmentName, location), 8) : skypilotUserId
var nodes = empty(nodeSubscriptionId) ? subscription().subscriptionId : nodeSubscriptionId
var more = empty(moreSettings) ? {} : base64ToJson(moreSettings)
// Handed to modules in place of their outputs, so that what-if and the snapshots know them before anything is deployed.
var identityNames = { app: 'id-app-${token}', skypilot: 'id-skypilot-${token}', gateway: 'id-gateway-${token}' }
var vaultNames = { app: 'kv-${token}', skypilot: 'kvs-${token}', gateway: 'kvg-${token}' }
var tags = { 'azd-env-name': environmentName }

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
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
    names: identityNames
    location: location
    tags: tags
    ownSkyPilot: ownSkyPilot
    ownGateway: ownGateway
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
    ownGateway: ownGateway
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    sku: storageSku
    lock: lockData
    subnetIds: concat([network.outputs.appSubnetId], ownGateway ? [network.outputs.gatewaySubnetId] : [])
    identities: identityNames
    ownGateway: ownGateway
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities]
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: vaultNames.app
    location: location
    tags: tags
    subnetIds: [network.outputs.appSubnetId]
    readers: [identityNames.app]
    writers: []
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities]
}

// A separate vault: the API server writes its token here and must not read the app's secrets.
module skypilotVault 'modules/vault.bicep' = if (ownSkyPilot) {
  name: 'skypilot-vault'
  scope: group
  params: {
    name: vaultNames.skypilot
    location: location
    tags: tags
    subnetIds: [network.outputs.appSubnetId, network.outputs.serverSubnetId]
    readers: [identityNames.app]
    writers: [identityNames.skypilot]
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities]
}

// The gateway's key is the only secret of the app that the gateway may read. The vault is there even without a gateway,
// since the key can be derived only when the master key is made.
module gatewayVault 'modules/vault.bicep' = {
  name: 'gateway-vault'
  scope: group
  params: {
    name: vaultNames.gateway
    location: location
    tags: tags
    subnetIds: ownGateway ? [network.outputs.gatewaySubnetId] : []
    readers: ownGateway ? [identityNames.gateway] : []
    writers: []
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities]
}

module registry 'modules/registry.bicep' = if (ownSkyPilot || ownGateway) {
  name: 'registry'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    readers: concat(ownSkyPilot ? [identityNames.skypilot] : [], ownGateway ? [identityNames.gateway] : [])
  }
  dependsOn: [identities]
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
    nodeSubscriptionId: nodes
    vnetId: network.outputs.vnetId
    serverSubnetId: network.outputs.serverSubnetId
    databaseSubnetId: network.outputs.databaseSubnetId
    identityName: identityNames.skypilot
    registryEndpoint: registry!.outputs.endpoint
    vaultName: vaultNames.skypilot
    packageAccountName: 'stpkg${token}'
    actionGroupId: monitoring.outputs.actionGroupId
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities, skypilotVault, storage]
}

module gateway 'modules/gateway.bicep' = if (ownGateway) {
  name: 'gateway'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    image: gatewayImage
    minReplicas: gatewayMinReplicas
    maxReplicas: max(gatewayMinReplicas, gatewayMaxReplicas)
    domain: gatewayDomain
    subnetId: network.outputs.gatewaySubnetId
    identityName: identityNames.gateway
    registryEndpoint: registry!.outputs.endpoint
    accountName: storage.outputs.accountName
    keyUrl: '${gatewayVault.outputs.uri}secrets/gateway-key'
    workspace: more.?GPULAUNCH_WORKSPACE ?? 'default'
    actionGroupId: monitoring.outputs.actionGroupId
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [identities]
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    identityName: identityNames.app
    subnetId: network.outputs.appSubnetId
    accountName: storage.outputs.accountName
    packageContainer: storage.outputs.packageContainer
    vaultUri: vault.outputs.uri
    tokenVaultUri: ownSkyPilot ? skypilotVault!.outputs.uri : vault.outputs.uri
    workspaceId: monitoring.outputs.workspaceId
    skypilotEndpoint: ownSkyPilot ? skypilot!.outputs.endpoint : skypilotEndpoint
    ownGateway: ownGateway
    gatewayUrl: ownGateway ? gateway!.outputs.url : ''
    skypilotUserId: userId
    nodeSubscriptionId: nodes
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    alwaysReadyHttp: alwaysReadyHttp
    useHubToken: useHubToken
    useWebhooks: useWebhooks
    r2Endpoint: r2Endpoint
    s3Region: s3Region
    moreSettings: more
  }
  dependsOn: [identities]
}

module availability 'modules/availability.bicep' = if (testAvailability) {
  name: 'availability'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    url: app.outputs.url
    actionGroupId: monitoring.outputs.actionGroupId
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles-${token}'
  scope: subscription(nodes)
  params: {
    token: token
    homeSubscriptionId: subscription().subscriptionId
    groupName: group.name
    identities: identityNames
    ownSkyPilot: ownSkyPilot
  }
  dependsOn: [identities]
}

module budget 'modules/budget.bicep' = if (monthlyBudget > 0) {
  name: 'budget-${token}'
  scope: subscription(nodes)
  params: {
    name: 'budget-${environmentName}'
    amount: monthlyBudget
    start: budgetStart
    email: alertEmail
    // An action group serves its own subscription.
    actionGroupIds: nodes == subscription().subscriptionId ? [monitoring.outputs.actionGroupId] : []
  }
}

output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_CONTAINER_REGISTRY_ENDPOINT string = ownSkyPilot || ownGateway ? registry!.outputs.endpoint : ''
output GPULAUNCH_APP_NAME string = app.outputs.name
output GPULAUNCH_URL string = app.outputs.url
output GPULAUNCH_VAULT_NAME string = vaultNames.app
output GPULAUNCH_TOKEN_VAULT_NAME string = ownSkyPilot ? vaultNames.skypilot : vaultNames.app
output GPULAUNCH_OWN_SKYPILOT bool = ownSkyPilot
output GPULAUNCH_OWN_GATEWAY bool = ownGateway
output GPULAUNCH_GATEWAY_VAULT_NAME string = vaultNames.gateway
output GPULAUNCH_GATEWAY_NAME string = ownGateway ? gateway!.outputs.name : ''
output GPULAUNCH_GATEWAY_HOST string = ownGateway ? gateway!.outputs.host : ''
output GPULAUNCH_GATEWAY_URL string = ownGateway ? gateway!.outputs.url : ''
output GPULAUNCH_GATEWAY_DOMAIN_VERIFICATION string = ownGateway ? gateway!.outputs.domainVerification : ''
output GPULAUNCH_NODE_SUBSCRIPTION_ID string = nodes
output SKYPILOT_USER_ID string = userId
