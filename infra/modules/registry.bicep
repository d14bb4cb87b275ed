@minLength(13)
@maxLength(13)
param token string
param location string
param tags object
@description('Names of identities.')
param readers array

var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'

// Holds the images of the API server and the gateway.
resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  // checkov:skip=CKV_AZURE_139: a private registry needs the Premium tier, at ten times the price, for two images without secrets
  // checkov:skip=CKV_AZURE_163: Defender scans at subscription level
  // checkov:skip=CKV_AZURE_166: quarantine needs the Premium tier
  // checkov:skip=CKV_AZURE_233: zone redundancy needs the Premium tier; a lost image can be rebuilt
  name: 'cr${token}'
  location: location
  tags: tags
  sku: { name: 'Basic' }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
  }
}

resource reader 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = [
  for name in readers: {
    name: name
  }
]

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (name, place) in readers: {
    name: guid(registry.id, reader[place].id, acrPull)
    scope: registry
    properties: {
      principalId: reader[place].properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
    }
  }
]

output endpoint string = registry.properties.loginServer
