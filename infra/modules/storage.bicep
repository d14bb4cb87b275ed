param token string
param location string
param tags object
param appSubnetId string
param appPrincipalId string
param workspaceId string

// The names used in shared/queues.py and shared/storage/connect.py. The host creates poison queues on demand; creating them
// here lets an empty one mean that nothing went wrong.
var queueNames = [
  'gpulaunch-launches'
  'gpulaunch-teardowns'
  'gpulaunch-health'
  'gpulaunch-launches-poison'
  'gpulaunch-teardowns-poison'
  'gpulaunch-health-poison'
]
var tableName = 'gpulaunch'
var reportsName = 'gpulaunchgateways'
var roles = {
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  blobContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  // checkov:skip=CKV_AZURE_206: one region, like the app
  // checkov:skip=CKV_AZURE_59: the firewall below admits only the app's subnet; closing the public endpoint needs three private endpoints, which cost more than the idle app
  // checkov:skip=CKV_AZURE_43: the name uses uniqueString, which the check cannot evaluate
  name: 'st${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_ZRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: 'Deny'
      bypass: 'AzureServices'
      virtualNetworkRules: [{ id: appSubnetId, action: 'Allow' }]
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = [for name in queueNames: {
  parent: queues
  name: name
}]

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = {
  parent: tables
  name: tableName
}

// Of its own, so that gateways' identities write nothing else.
resource reports 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = {
  parent: tables
  name: reportsName
}

// Separate from the data: the deployment service writes the package from outside the network, which the firewall above
// would block. It holds code but no data or secrets, and accepts managed identities only.
resource packages 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  // checkov:skip=CKV_AZURE_206: a lost package can be deployed again
  // checkov:skip=CKV_AZURE_59: the deployment service connects from outside the network
  // checkov:skip=CKV_AZURE_35: the deployment service connects from outside the network
  // checkov:skip=CKV_AZURE_36: there is no network rule for a trusted service to bypass
  // checkov:skip=CKV_AZURE_43: the name uses uniqueString, which the check cannot evaluate
  name: 'stpkg${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource packageBlobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: packages
  name: 'default'
  properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }
}

resource packageContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: packageBlobs
  name: 'app'
  properties: { publicAccess: 'None' }
}

// The host keeps locks, timers and keys in blob containers that it creates itself, so it owns the blobs of this account only.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, roles.blobOwner)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobOwner)
  }
}

resource appQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, roles.queueContributor)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueContributor)
  }
}

resource appTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, roles.tableContributor)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
  }
}

resource appPackage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(packages.id, appPrincipalId, roles.blobContributor)
  scope: packages
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobContributor)
  }
}

// Records who deleted a queue or message. Logging reads and writes as well would cost more than it is worth.
resource queueAudit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: queues
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageDelete', enabled: true }]
  }
}

output accountName string = account.name
output packageContainer string = '${packages.properties.primaryEndpoints.blob}app'
