param token string
param location string
param tags object
param alertEmail string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    // Caps an endless log loop at a few dollars a day; an alert says that it is reached.
    workspaceCapping: { dailyQuotaGb: 1 }
    features: { disableLocalAuth: true }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'gpulaunch'
    enabled: true
    emailReceivers: [{ name: 'operators', emailAddress: alertEmail, useCommonAlertSchema: true }]
  }
}

// Each query returns a row when something is wrong.
var alerts = [
  {
    name: 'poison'
    title: 'gpulaunch: a message went to a poison queue'
    query: loadTextContent('../queries/poison.kql')
    window: 'PT5M'
    every: 'PT5M'
    severity: 2
  }
  {
    name: 'sweep'
    title: 'gpulaunch: no sweep for ten minutes'
    query: loadTextContent('../queries/sweep.kql')
    window: 'P1D'
    every: 'PT5M'
    severity: 1
  }
  {
    name: 'stuck'
    title: 'gpulaunch: an instance is stuck'
    query: loadTextContent('../queries/stuck.kql')
    window: 'P2D'
    every: 'PT15M'
    severity: 2
  }
  {
    name: 'teardown'
    title: 'gpulaunch: a node cannot be confirmed deleted and may still cost money'
    query: loadTextContent('../queries/teardown.kql')
    window: 'PT15M'
    every: 'PT5M'
    severity: 1
  }
  {
    name: 'access'
    title: 'gpulaunch: many failed sign-ins or wrong tokens'
    query: loadTextContent('../queries/access.kql')
    window: 'PT15M'
    every: 'PT15M'
    severity: 2
  }
  {
    name: 'errors'
    title: 'gpulaunch: many calls fail with 5xx'
    query: loadTextContent('../queries/errors.kql')
    window: 'PT15M'
    every: 'PT15M'
    severity: 2
  }
  {
    name: 'denied'
    title: 'gpulaunch: a vault refuses calls'
    query: loadTextContent('../queries/denied.kql')
    window: 'PT15M'
    every: 'PT15M'
    severity: 2
  }
  {
    name: 'backup'
    title: 'gpulaunch: no copy of the records for a day'
    query: loadTextContent('../queries/backup.kql')
    window: 'P2D'
    every: 'PT1H'
    severity: 2
  }
  {
    name: 'cap'
    title: 'gpulaunch: the daily cap of the logs is reached'
    query: loadTextContent('../queries/cap.kql')
    window: 'PT15M'
    every: 'PT15M'
    severity: 1
  }
]

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in alerts: {
    name: 'alert-${alert.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      description: 'Meaning and remedy: docs/azure.md, section Alerts.'
      severity: alert.severity
      enabled: true
      scopes: [workspace.id]
      evaluationFrequency: alert.every
      windowSize: alert.window
      autoMitigate: true
      // The tables do not exist until the app has logged for the first time.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [people.id] }
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, token, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'gpulaunch'
    category: 'workbook'
    sourceId: workspace.id
    version: 'Notebook/1.0'
    serializedData: loadTextContent('../workbook.json')
  }
}

output workspaceId string = workspace.id
output actionGroupId string = people.id
