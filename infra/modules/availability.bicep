param token string
param location string
param tags object
param url string
param actionGroupId string

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: 'appi-${token}'
}

// West Europe, East US, Southeast Asia: one place that cannot reach the app may be the place's own trouble.
var places = ['emea-nl-ams-azr', 'us-va-ash-azr', 'apac-sg-sin-azr']

resource test 'Microsoft.Insights/webtests@2022-06-15' = {
  name: 'test-health-${token}'
  location: location
  // The link is what Application Insights finds the test by.
  tags: union(tags, { 'hidden-link:${insights.id}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: 'test-health-${token}'
    Name: 'gpulaunch: /api/health'
    Enabled: true
    // Each test costs: once in a quarter of an hour from three places is 9,000 a month.
    Frequency: 900
    Timeout: 60
    Kind: 'standard'
    RetryEnabled: true
    Locations: [for place in places: { Id: place }]
    Request: { RequestUrl: '${url}/api/health', HttpVerb: 'GET', ParseDependentRequests: false }
    ValidationRules: { ExpectedHttpStatusCode: 200, SSLCheck: true, SSLCertRemainingLifetimeCheck: 7 }
  }
}

resource unreachable 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: 'alert-unreachable-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'gpulaunch: the app cannot be reached from outside. Meaning and remedy: docs/azure.md, section Alerts.'
    severity: 1
    enabled: true
    scopes: [test.id, insights.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT30M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: test.id
      componentId: insights.id
      failedLocationCount: 2
    }
    actions: [{ actionGroupId: actionGroupId }]
  }
}
