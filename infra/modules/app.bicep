param token string
param location string
param tags object
param identityName string
param subnetId string
param accountName string
param packageContainer string
param vaultUri string
param tokenVaultUri string
param workspaceId string
param skypilotEndpoint string
param ownGateway bool
@description('Read only if there is a gateway.')
param gatewayUrl string
param skypilotUserId string
param nodeSubscriptionId string
param instanceMemoryMB int
param maximumInstances int
param alwaysReadyHttp int
param useHubToken bool
param useWebhooks bool
param r2Endpoint string
param s3Region string
param moreSettings object

var name = 'func-${token}'
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: 'appi-${token}'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225: zone redundancy on Flex Consumption requires paid always-ready instances; the sweep recovers after an outage
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  // checkov:skip=CKV_AZURE_212: Flex Consumption starts instances on demand; none has to stand by
  // checkov:skip=CKV_AZURE_213: Flex Consumption replaces unhealthy instances itself and has no such setting
  // checkov:skip=CKV_AZURE_222: nodes and users call the app's public address; every call carries a token
  // checkov:skip=CKV_AZURE_17: nodes and users carry tokens, not client certificates
  // checkov:skip=CKV_AZURE_13: nodes can't sign in; the app checks its own tokens
  // checkov:skip=CKV_AZURE_16: the identity is user-assigned, so that its roles exist before the app does
  // checkov:skip=CKV_AZURE_71: the identity is user-assigned, so that its roles exist before the app does
  // checkov:skip=CKV_AZURE_88: no file share; the package is in blob storage
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'api' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: subnetId
    keyVaultReferenceIdentity: identity.id
    siteConfig: {
      // Nothing else: Flex refuses ftpsState and other properties of older plans (Azure/azure-cli#31414), region by region.
      // checkov:skip=CKV_AZURE_18: Flex Consumption chooses the version of HTTP
      // checkov:skip=CKV_AZURE_67: Flex Consumption chooses the version of HTTP
      // checkov:skip=CKV_AZURE_78: Flex Consumption has no FTP and refuses the property
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainer
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        // For each group of functions: HTTP, each queue, the timers. Most regions take no less than 40
        // (Azure/azure-functions-host#10523), so it does not bound what a fault can cost; the app's own limits do.
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReadyHttp == 0 ? [] : [{ name: 'http', instanceCount: alwaysReadyHttp }]
        // The default for Python is 1, and host.json's limits do not count there.
        triggers: { http: { perInstanceConcurrency: 16 } }
      }
    }
  }
}

// Disable user names and passwords for deployments: identities only.
resource ftpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'ftp'
  properties: { allow: false }
}

resource scmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'scm'
  properties: { allow: false }
}

var fromVault = '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets'

var hostSettings = {
  AzureWebJobsStorage__blobServiceUri: 'https://${accountName}.blob.${environment().suffixes.storage}'
  AzureWebJobsStorage__queueServiceUri: 'https://${accountName}.queue.${environment().suffixes.storage}'
  AzureWebJobsStorage__tableServiceUri: 'https://${accountName}.table.${environment().suffixes.storage}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  AzureWebJobsDisableHomepage: 'true'
  PYTHON_THREADPOOL_THREAD_COUNT: '48'
  // The host reads a body before the app can refuse it: four of 100 MiB, its default, end an instance of 2 GB.
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '2097152'
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  AZURE_CLIENT_ID: identity.properties.clientId
  AZURE_SUBSCRIPTION_ID: nodeSubscriptionId
}
var appSettings = {
  GPULAUNCH_ORCHESTRATOR: 'skypilot'
  GPULAUNCH_MASTER_KEY: '${fromVault}/master-key)'
  GPULAUNCH_ADMIN_TOKENS: '${fromVault}/admin-tokens)'
  GPULAUNCH_READ_TOKENS: '${fromVault}/read-tokens)'
  GPULAUNCH_DEPLOY_TOKENS: '${fromVault}/deploy-tokens)'
  GPULAUNCH_PUBLIC_URL: 'https://${site.properties.defaultHostName}'
  SKYPILOT_API_SERVER_ENDPOINT: skypilotEndpoint
  SKYPILOT_SERVICE_ACCOUNT_TOKEN: '@Microsoft.KeyVault(SecretUri=${tokenVaultUri}secrets/skypilot-token)'
  SKYPILOT_USER_ID: skypilotUserId
}
var gatewaySettings = {
  GPULAUNCH_GATEWAY_URL: gatewayUrl
}
var hubSettings = {
  HF_TOKEN: '${fromVault}/hub-token)'
}
// Addresses of webhooks are secrets: whoever knows one can send in the deployment's name.
var webhookSettings = {
  GPULAUNCH_WEBHOOK_URLS: '${fromVault}/webhook-urls)'
  GPULAUNCH_WEBHOOK_SECRET: '${fromVault}/webhook-secret)'
}
var r2Settings = {
  R2_ENDPOINT: r2Endpoint
  R2_ACCESS_KEY_ID: '${fromVault}/r2-access-key-id)'
  R2_SECRET_ACCESS_KEY: '${fromVault}/r2-secret-access-key)'
}
var s3Settings = {
  AWS_REGION: s3Region
  AWS_ACCESS_KEY_ID: '${fromVault}/s3-access-key-id)'
  AWS_SECRET_ACCESS_KEY: '${fromVault}/s3-secret-access-key)'
}

resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  // checkov:skip=CKV_AZURE_13: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_63: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_65: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_66: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_80: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_88: the list of settings, not the web configuration
  // checkov:skip=CKV_AZURE_222: the list of settings, not the web configuration
  parent: site
  name: 'appsettings'
  properties: union(
    hostSettings,
    appSettings,
    ownGateway ? gatewaySettings : {},
    useHubToken ? hubSettings : {},
    useWebhooks ? webhookSettings : {},
    empty(r2Endpoint) ? {} : r2Settings,
    empty(s3Region) ? {} : s3Settings,
    moreSettings
  )
}

resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identity.id, metricsPublisher)
  scope: insights
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

// The latest version that ARM has; the one without `preview` is older.
#disable-next-line use-recent-api-versions
resource metrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'metrics'
  scope: site
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output name string = site.name
output url string = 'https://${site.properties.defaultHostName}'
