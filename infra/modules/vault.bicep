param name string
param location string
param tags object
param subnetIds array
@description('Names of identities.')
param readers array
@description('Names of identities.')
param writers array
param workspaceId string

var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var secretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'

// People write secrets through the resource manager (python -m deploy secrets), which needs no network access from outside.
resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  // checkov:skip=CKV_AZURE_189: the firewall below admits only this deployment's subnets; closing the public endpoint needs a private endpoint, which costs more than the idle app
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 30
    enablePurgeProtection: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: 'Deny'
      bypass: 'AzureServices'
      virtualNetworkRules: [for id in subnetIds: { id: id }]
    }
  }
}

resource reader 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = [
  for name in readers: {
    name: name
  }
]

resource writer 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = [
  for name in writers: {
    name: name
  }
]

resource reading 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (name, place) in readers: {
    name: guid(vault.id, reader[place].id, secretsUser)
    scope: vault
    properties: {
      principalId: reader[place].properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
    }
  }
]

resource writing 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (name, place) in writers: {
    name: guid(vault.id, writer[place].id, secretsOfficer)
    scope: vault
    properties: {
      principalId: writer[place].properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsOfficer)
    }
  }
]

// The latest version that ARM has; the one without `preview` is older.
#disable-next-line use-recent-api-versions
resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

output uri string = vault.properties.vaultUri
