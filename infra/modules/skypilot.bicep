@minLength(13)
@maxLength(13)
param token string
param location string
param tags object
param image string
param minReplicas int
param userId string
param vnetId string
param serverSubnetId string
param databaseSubnetId string
param identityName string
param registryEndpoint string
param vaultName string
@secure()
param databasePassword string
param workspaceId string

var port = 46580

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource databaseZone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: 'gpulaunch${token}.private.postgres.database.azure.com'
  location: 'global'
  tags: tags
}

resource databaseLink 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: databaseZone
  name: 'vnet'
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: { id: vnetId }
  }
}

// SkyPilot's state: its cluster records and their ssh keys. SQLite on a file share is not an option, since SMB and NFS do
// not preserve its locks and write-ahead log; Postgres survives a restart during a write and is backed up by the platform.
resource database 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = {
  name: 'psql-${token}'
  location: location
  tags: tags
  sku: { name: 'Standard_B1ms', tier: 'Burstable' }
  properties: {
    version: '16'
    createMode: 'Default'
    administratorLogin: 'skypilot'
    administratorLoginPassword: databasePassword
    authConfig: { passwordAuth: 'Enabled', activeDirectoryAuth: 'Disabled' }
    storage: { storageSizeGB: 32, autoGrow: 'Enabled' }
    backup: { backupRetentionDays: 7, geoRedundantBackup: 'Disabled' }
    highAvailability: { mode: 'Disabled' }
    network: {
      delegatedSubnetResourceId: databaseSubnetId
      privateDnsZoneArmResourceId: databaseZone.id
    }
  }
  dependsOn: [databaseLink]
}

resource stateDatabase 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2025-08-01' = {
  parent: database
  name: 'skypilot'
  properties: { charset: 'UTF8', collation: 'en_US.utf8' }
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
}

resource connection 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = {
  // checkov:skip=CKV_AZURE_41: replaced by every deployment; an expiry would stop the server between two deployments
  parent: vault
  name: 'skypilot-database'
  properties: {
    contentType: 'Connection of SkyPilot to its database'
    value: 'postgresql://skypilot:${databasePassword}@${database.properties.fullyQualifiedDomainName}:5432/skypilot?sslmode=require'
  }
}

resource place 'Microsoft.App/managedEnvironments@2025-07-01' = {
  name: 'cae-${token}'
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: { infrastructureSubnetId: serverSubnetId, internal: true }
    workloadProfiles: [{ name: 'Consumption', workloadProfileType: 'Consumption' }]
    zoneRedundant: false
  }
}

// The latest version that ARM has; the one without `preview` is older.
#disable-next-line use-recent-api-versions
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: place
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'ContainerAppConsoleLogs', enabled: true }
      { category: 'ContainerAppSystemLogs', enabled: true }
    ]
  }
}

// At most one replica: each keeps its requests in a local SQLite file, so two servers would know half of them each.
resource server 'Microsoft.App/containerApps@2025-07-01' = {
  name: 'ca-skypilot-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'skypilot' })
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    environmentId: place.id
    workloadProfileName: 'Consumption'
    configuration: {
      activeRevisionsMode: 'Single'
      // `external` refers to the environment, which is internal to the network: the app's subnet reaches it, the internet does not.
      ingress: { external: true, targetPort: port, transport: 'http', allowInsecure: false }
      registries: [{ server: registryEndpoint, identity: identity.id }]
      secrets: [
        // Includes the version, so that a new password creates a new revision, which reads it.
        { name: 'database', keyVaultUrl: connection.properties.secretUriWithVersion, identity: identity.id }
      ]
    }
    template: {
      containers: [
        {
          name: 'skypilot'
          image: image
          // The template carries the script, so that SkyPilot's own image works until this project's is built.
          command: ['/bin/bash', '-c', loadTextContent('../skypilot/start.sh')]
          resources: { cpu: 2, memory: '4Gi' }
          env: [
            { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
            { name: 'AZURE_SUBSCRIPTION_ID', value: subscription().subscriptionId }
            { name: 'SKYPILOT_USER_ID', value: userId }
            { name: 'SKYPILOT_DB_CONNECTION_URI', secretRef: 'database' }
            { name: 'GPULAUNCH_TOKEN_VAULT', value: vault.properties.vaultUri }
          ]
          probes: [
            // At start az signs in and the server migrates its tables: up to a minute on two cores, longer after an upgrade.
            {
              type: 'Startup'
              httpGet: { path: '/api/health', port: port }
              periodSeconds: 10
              failureThreshold: 30
              timeoutSeconds: 5
            }
            {
              type: 'Liveness'
              httpGet: { path: '/api/health', port: port }
              periodSeconds: 30
              failureThreshold: 4
              timeoutSeconds: 10
            }
          ]
        }
      ]
      scale: { minReplicas: minReplicas, maxReplicas: 1 }
    }
  }
  dependsOn: [stateDatabase]
}

module privateName 'private-name.bicep' = {
  name: 'private-name'
  params: {
    // Azure chooses the domain, so what-if cannot name the zone before the environment exists.
    #disable-next-line what-if-short-circuiting
    domain: place.properties.defaultDomain
    address: place.properties.staticIp
    vnetId: vnetId
    tags: tags
  }
}

output endpoint string = 'https://${server.properties.configuration.ingress.fqdn}'
