@minLength(13)
@maxLength(13)
param token string
param location string
param tags object
@description('Empty: not built yet.')
param image string
param minReplicas int
param maxReplicas int
@description('A name that applications use instead of Azure\'s. Empty: none.')
param domain string
param subnetId string
param identityName string
param registryEndpoint string
param accountName string
param keyUrl string
@description('GPULAUNCH_WORKSPACE of the app.')
param workspace string
param workspaceId string
param actionGroupId string

var port = 7072
// Microsoft's registry has no limit for anonymous callers; Docker Hub has.
var placeholder = 'mcr.microsoft.com/azurelinux/base/python:3.12'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

// An environment of its own: the API server's has no address on the internet.
resource place 'Microsoft.App/managedEnvironments@2025-07-01' = {
  name: 'cae-gateway-${token}'
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: { destination: 'azure-monitor' }
    vnetConfiguration: { infrastructureSubnetId: subnetId, internal: false }
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

resource gateway 'Microsoft.App/containerApps@2025-07-01' = {
  name: 'ca-gateway-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'gateway' })
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    environmentId: place.id
    workloadProfileName: 'Consumption'
    configuration: {
      activeRevisionsMode: 'Single'
      // The ingress ends a request after 240 s without a byte, which no setting changes; the gateway answers or sends one before.
      ingress: {
        external: true
        targetPort: port
        transport: 'http'
        allowInsecure: false
        // `Auto` binds the certificate below, which can be issued only once the app has the name.
        customDomains: empty(domain) ? [] : [{ name: domain, bindingType: 'Auto' }]
      }
      registries: [{ server: registryEndpoint, identity: identity.id }]
    }
    template: {
      // Longer than the gateway's own: at its end it tells broken streams and removes its report.
      terminationGracePeriodSeconds: 600
      containers: [
        {
          name: 'gateway'
          image: empty(image) ? placeholder : image
          command: ['/bin/sh', '-c', loadTextContent('../gateway/start.sh')]
          // One core carries some 6,800 requests or 28,000 chunks of streams a second.
          resources: { cpu: json('0.5'), memory: '1Gi' }
          env: [
            { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
            {
              name: 'AzureWebJobsStorage__tableServiceUri'
              value: 'https://${accountName}.table.${environment().suffixes.storage}'
            }
            {
              name: 'AzureWebJobsStorage__queueServiceUri'
              value: 'https://${accountName}.queue.${environment().suffixes.storage}'
            }
            { name: 'GATEWAY_HOST', value: '0.0.0.0' }
            { name: 'GATEWAY_PORT', value: string(port) }
            { name: 'GPULAUNCH_GATEWAY_KEY_URL', value: keyUrl }
            { name: 'GPULAUNCH_WORKSPACE', value: workspace }
          ]
          probes: [
            // The table, the vault and the identity's token, each of which may need a retry.
            {
              type: 'Startup'
              httpGet: { path: '/readyz', port: port }
              periodSeconds: 5
              failureThreshold: 10
              timeoutSeconds: 3
            }
            {
              type: 'Readiness'
              httpGet: { path: '/readyz', port: port }
              periodSeconds: 5
              failureThreshold: 3
              timeoutSeconds: 3
            }
            // Not /readyz: a gateway that cannot read the table still serves the endpoints that it knows.
            { type: 'Liveness', tcpSocket: { port: port }, periodSeconds: 10, failureThreshold: 3, timeoutSeconds: 3 }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [{ name: 'requests', http: { metadata: { concurrentRequests: '250' } } }]
      }
    }
  }
}

// Issued and renewed by Azure as long as the name is a CNAME of the app's own.
resource certificate 'Microsoft.App/managedEnvironments/managedCertificates@2025-07-01' = if (!empty(domain)) {
  parent: place
  name: 'gateway-${uniqueString(domain)}'
  location: location
  tags: tags
  properties: { subjectName: domain, domainControlValidation: 'CNAME' }
  dependsOn: [gateway]
}

module restarts 'metric-alert.bicep' = {
  name: 'alert-gateway'
  params: {
    name: 'alert-gateway-${token}'
    title: 'gpulaunch: the gateway keeps restarting'
    tags: tags
    targetId: gateway.id
    metric: 'RestartCount'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 3
    actionGroupId: actionGroupId
  }
}

output name string = gateway.name
output host string = gateway.properties.configuration.ingress.fqdn
output url string = 'https://${empty(domain) ? gateway.properties.configuration.ingress.fqdn : domain}'
output domainVerification string = gateway.properties.customDomainVerificationId
