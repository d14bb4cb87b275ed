param name string
param title string
param tags object
param targetId string
param metric string
param aggregation string
param operator string
param threshold int
param actionGroupId string

resource rule 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    description: '${title}. Meaning and remedy: docs/azure.md, section Alerts.'
    severity: 1
    enabled: true
    scopes: [targetId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: metric
          metricName: metric
          timeAggregation: aggregation
          operator: operator
          threshold: threshold
        }
      ]
    }
    actions: [{ actionGroupId: actionGroupId }]
  }
}
