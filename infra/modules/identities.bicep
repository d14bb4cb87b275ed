param token string
param location string
param tags object
param ownSkyPilot bool

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-app-${token}'
  location: location
  tags: tags
}

resource skypilot 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (ownSkyPilot) {
  name: 'id-skypilot-${token}'
  location: location
  tags: tags
}

output appId string = app.id
output appClientId string = app.properties.clientId
output appPrincipalId string = app.properties.principalId
output skypilotId string = ownSkyPilot ? skypilot.id : ''
output skypilotClientId string = ownSkyPilot ? skypilot.properties.clientId : ''
output skypilotPrincipalId string = ownSkyPilot ? skypilot.properties.principalId : ''
