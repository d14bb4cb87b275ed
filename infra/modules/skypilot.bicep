@minLength(13)
@maxLength(13)
param token string
param location string
param tags object
@description('Empty: not built yet.')
param image string
param minReplicas int
param userId string
param nodeSubscriptionId string
param vnetId string
param serverSubnetId string
param databaseSubnetId string
param identityName string
param registryEndpoint string
param vaultName string
param packageAccountName string
param workspaceId string
param actionGroupId string

var port = 46580
// Microsoft's registry has no limit for anonymous callers; Docker Hub has.
var placeholder = 'mcr.microsoft.com/azurelinux/base/python:3.12'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

// Nothing signs in with the package account's keys. They are random, only Azure holds them, and they stay until somebody
// renews them, so the password follows from one: a deployment changes it only then.
resource packages 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: packageAccountName
}

module database 'database.bicep' = {
  name: 'database'
  params: {
    token: token
    location: location
    tags: tags
    vnetId: vnetId
    subnetId: databaseSubnetId
    actionGroupId: actionGroupId
    // A GUID alone is not enough: the server requires three kinds of characters.
    password: 'P-${guid(packages.listKeys().keys[0].value, 'database')}'
  }
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
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
      // Not by way of a vault: Container Apps does not read one behind a firewall reliably (microsoft/azure-container-apps#1287).
      secrets: [{ name: 'database', value: database.outputs.connection }]
    }
    template: {
      containers: [
        {
          name: 'skypilot'
          image: empty(image) ? placeholder : image
          // The template carries the script, which answers in the server's place until its image is built.
          command: ['/bin/bash', '-c', loadTextContent('../skypilot/start.sh')]
          resources: { cpu: 2, memory: '4Gi' }
          env: [
            { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
            { name: 'AZURE_SUBSCRIPTION_ID', value: nodeSubscriptionId }
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
              // The first probe passes while the server waits for its predecessor; it then has five minutes to start.
              failureThreshold: 10
              timeoutSeconds: 10
            }
          ]
        }
      ]
      scale: { minReplicas: minReplicas, maxReplicas: 1 }
    }
  }
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

module restarts 'metric-alert.bicep' = {
  name: 'alert-server'
  params: {
    name: 'alert-server-${token}'
    title: 'gpulaunch: SkyPilot\'s API server keeps restarting'
    tags: tags
    targetId: server.id
    metric: 'RestartCount'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 3
    actionGroupId: actionGroupId
  }
}

output endpoint string = 'https://${server.properties.configuration.ingress.fqdn}'
