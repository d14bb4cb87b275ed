param token string
param location string
param tags object
param vnetId string
param subnetId string
param actionGroupId string
@secure()
param password string

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
    administratorLoginPassword: password
    authConfig: { passwordAuth: 'Enabled', activeDirectoryAuth: 'Disabled' }
    storage: { storageSizeGB: 32, autoGrow: 'Enabled' }
    backup: { backupRetentionDays: 7, geoRedundantBackup: 'Disabled' }
    highAvailability: { mode: 'Disabled' }
    network: {
      delegatedSubnetResourceId: subnetId
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

module silence 'metric-alert.bicep' = {
  name: 'alert-database'
  params: {
    name: 'alert-database-${token}'
    title: 'gpulaunch: SkyPilot\'s database does not answer'
    tags: tags
    targetId: database.id
    metric: 'is_db_alive'
    aggregation: 'Maximum'
    operator: 'LessThan'
    threshold: 1
    actionGroupId: actionGroupId
  }
}

module space 'metric-alert.bicep' = {
  name: 'alert-space'
  params: {
    name: 'alert-space-${token}'
    title: 'gpulaunch: SkyPilot\'s database is nearly full'
    tags: tags
    targetId: database.id
    metric: 'storage_percent'
    aggregation: 'Average'
    operator: 'GreaterThan'
    threshold: 85
    actionGroupId: actionGroupId
  }
}

@secure()
output connection string = 'postgresql://skypilot:${password}@${database.properties.fullyQualifiedDomainName}:5432/skypilot?sslmode=require'
