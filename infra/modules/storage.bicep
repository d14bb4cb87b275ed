@minLength(13)
@maxLength(13)
param token string
param location string
param tags object
@description('Of the data account.')
param sku string
param lock bool
param subnetIds array
param identities object
param ownGateway bool
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
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  tableReader: '76199698-9eea-4c19-a6bd-0f25d6a0c5b2'
}

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identities.app
}

resource gateway 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = if (ownGateway) {
  name: identities.gateway
}

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_206: one region, like the app
  // checkov:skip=CKV_AZURE_59: the firewall below admits only this deployment's subnets; closing the public endpoint needs three private endpoints, which cost more than the idle app
  // checkov:skip=CKV_AZURE_43: the name uses uniqueString, which the check cannot evaluate
  name: 'st${token}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
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
      virtualNetworkRules: [for id in subnetIds: { id: id, action: 'Allow' }]
    }
  }
}

// A group with a locked resource is not deleted either. The lock is on the account alone: one on the group would keep Azure
// from tidying up old deployments, of which a group takes 800.
resource keep 'Microsoft.Authorization/locks@2020-05-01' = if (lock) {
  name: 'keep'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'The records of instances and what they cost. How to remove it: docs/azure.md, section Remove everything.'
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for name in queueNames: {
    parent: queues
    name: name
  }
]

// One of those above.
resource launches 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = {
  parent: queues
  name: 'gpulaunch-launches'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = {
  parent: tables
  name: tableName
}

// A table of its own, so that the gateway's identity writes nothing else.
resource reports 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = {
  parent: tables
  name: reportsName
}

// Separate from the data: the deployment service writes the package from outside the network, which the firewall above
// would block. It holds code but no data or secrets, and accepts managed identities only.
resource packages 'Microsoft.Storage/storageAccounts@2025-06-01' = {
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

resource packageBlobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: packages
  name: 'default'
  properties: { deleteRetentionPolicy: { enabled: true, days: 7 } }
}

resource packageContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: packageBlobs
  name: 'app'
  properties: { publicAccess: 'None' }
}

// The host keeps locks, timers and keys in blob containers that it creates itself, so it owns the blobs of this account only.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, app.id, roles.blobOwner)
  scope: account
  properties: {
    principalId: app.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobOwner)
  }
}

resource appQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, app.id, roles.queueContributor)
  scope: account
  properties: {
    principalId: app.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueContributor)
  }
}

resource appTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, app.id, roles.tableContributor)
  scope: account
  properties: {
    principalId: app.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
  }
}

// The gateway reads routes among the records, and writes its reports. A table is the narrowest scope there is: conditions
// on role assignments cover blobs and queues only.
resource gatewayRecords 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ownGateway) {
  name: guid(table.id, gateway.id, roles.tableReader)
  scope: table
  properties: {
    principalId: gateway!.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
  }
}

resource gatewayReports 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ownGateway) {
  name: guid(reports.id, gateway.id, roles.tableContributor)
  scope: reports
  properties: {
    principalId: gateway!.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
  }
}

// To ask for a replica when a request waits; it reads no message.
resource gatewaySteps 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ownGateway) {
  name: guid(launches.id, gateway.id, roles.queueSender)
  scope: launches
  properties: {
    principalId: gateway!.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueSender)
  }
  dependsOn: [queue]
}

resource appPackage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(packages.id, app.id, roles.blobContributor)
  scope: packages
  properties: {
    principalId: app.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobContributor)
  }
}

// Records who deleted a queue or message. Logging reads and writes as well would cost more than it is worth.
// The latest version that ARM has; the one without `preview` is older.
#disable-next-line use-recent-api-versions
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
