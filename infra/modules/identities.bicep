param names object
param location string
param tags object
param ownSkyPilot bool
param ownGateway bool

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: names.app
  location: location
  tags: tags
}

resource skypilot 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (ownSkyPilot) {
  name: names.skypilot
  location: location
  tags: tags
}

resource gateway 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = if (ownGateway) {
  name: names.gateway
  location: location
  tags: tags
}
