param token string
param location string
param tags object
param ownSkyPilot bool
param ownGateway bool

var appPrefix = '10.60.0.0/26'
var serverPrefix = '10.60.0.64/26'
var databasePrefix = '10.60.0.128/28'
var gatewayPrefix = '10.60.0.192/26'

// Nothing connects to the app's subnet: requests reach the app through its public front end.
resource appRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-app-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'DenyInbound'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// Only the app may reach the API server. The environment's load balancer receives 443 on port 31443 of its subnet.
resource serverRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (ownSkyPilot) {
  name: 'nsg-skypilot-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'AllowApp'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: appPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: serverPrefix
          destinationPortRanges: ['443', '31443']
        }
      }
      {
        name: 'AllowWithin'
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefix: serverPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: serverPrefix
          destinationPortRange: '*'
        }
      }
      {
        name: 'AllowHealthOfLoadBalancer'
        properties: {
          priority: 120
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'AzureLoadBalancer'
          sourcePortRange: '*'
          destinationAddressPrefix: serverPrefix
          destinationPortRange: '30000-32767'
        }
      }
      {
        name: 'DenyInbound'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource databaseRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (ownSkyPilot) {
  name: 'nsg-database-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'AllowServer'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: serverPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: databasePrefix
          destinationPortRange: '5432'
        }
      }
      {
        name: 'DenyInbound'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// Applications reach the gateway from the internet, by HTTPS alone.
resource gatewayRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (ownGateway) {
  name: 'nsg-gateway-${token}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'AllowApplications'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: gatewayPrefix
          destinationPortRanges: ['443', '31443']
        }
      }
      {
        name: 'AllowWithin'
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: '*'
          sourceAddressPrefix: gatewayPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: gatewayPrefix
          destinationPortRange: '*'
        }
      }
      {
        name: 'AllowHealthOfLoadBalancer'
        properties: {
          priority: 120
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'AzureLoadBalancer'
          sourcePortRange: '*'
          destinationAddressPrefix: gatewayPrefix
          destinationPortRange: '30000-32767'
        }
      }
      {
        name: 'DenyInbound'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

var appSubnet = {
  name: 'app'
  properties: {
    addressPrefix: appPrefix
    networkSecurityGroup: { id: appRules.id }
    delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
    // Free, whereas four private endpoints would cost more than the rest of an idle app.
    serviceEndpoints: [{ service: 'Microsoft.Storage' }, { service: 'Microsoft.KeyVault' }]
    // Nodes, model hubs and the resource manager are outside the network; the platform's default outbound addresses suffice.
    defaultOutboundAccess: true
  }
}
var serverSubnets = [
  {
    name: 'skypilot'
    properties: {
      addressPrefix: serverPrefix
      networkSecurityGroup: { id: ownSkyPilot ? serverRules.id : '' }
      delegations: [{ name: 'environment', properties: { serviceName: 'Microsoft.App/environments' } }]
      serviceEndpoints: [{ service: 'Microsoft.KeyVault' }]
      defaultOutboundAccess: true
    }
  }
  {
    name: 'database'
    properties: {
      addressPrefix: databasePrefix
      networkSecurityGroup: { id: ownSkyPilot ? databaseRules.id : '' }
      delegations: [{ name: 'postgres', properties: { serviceName: 'Microsoft.DBforPostgreSQL/flexibleServers' } }]
      defaultOutboundAccess: false
    }
  }
]
var gatewaySubnet = {
  name: 'gateway'
  properties: {
    addressPrefix: gatewayPrefix
    networkSecurityGroup: { id: ownGateway ? gatewayRules.id : '' }
    delegations: [{ name: 'environment', properties: { serviceName: 'Microsoft.App/environments' } }]
    serviceEndpoints: [{ service: 'Microsoft.Storage' }, { service: 'Microsoft.KeyVault' }]
    defaultOutboundAccess: true
  }
}

resource vnet 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.60.0.0/24'] }
    subnets: concat([appSubnet], ownSkyPilot ? serverSubnets : [], ownGateway ? [gatewaySubnet] : [])
  }
}

output vnetId string = vnet.id
output appSubnetId string = '${vnet.id}/subnets/app'
output serverSubnetId string = ownSkyPilot ? '${vnet.id}/subnets/skypilot' : ''
output databaseSubnetId string = ownSkyPilot ? '${vnet.id}/subnets/database' : ''
output gatewaySubnetId string = ownGateway ? '${vnet.id}/subnets/gateway' : ''
