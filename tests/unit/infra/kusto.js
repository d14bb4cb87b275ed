// Check Kusto queries with Microsoft's own parser and binder, against the columns of the tables that this project's queries read.
// `node kusto.js FILES…`: a .kql file is one query, a .json file (a workbook) has one in each "query", a .md file one in each ```kql
// block. Prints a line for each error or warning and the number of queries; exit code 1 if there is an error.
const fs = require('fs'), path = require('path'), vm = require('vm');
const home = path.dirname(require.resolve('@kusto/language-service-next/package.json', { paths: [process.cwd()] }));
for (const name of ['bridge.js', 'Kusto.Language.Bridge.js']) {
  vm.runInThisContext(fs.readFileSync(path.join(home, name), 'utf8'), { filename: name });
}
const { Symbols, GlobalState, KustoCode } = Kusto.Language;

// https://learn.microsoft.com/azure/azure-monitor/reference/tables
const every = 'TenantId:string,TimeGenerated:datetime,Type:string,_ResourceId:string';
const app = `${every},OperationName:string,OperationId:string,ParentId:string,AppVersion:string,AppRoleName:string,` +
  'AppRoleInstance:string,SDKVersion:string,ItemCount:int,Properties:dynamic,Measurements:dynamic';
const call = 'Name:string,Success:bool,ResultCode:string,DurationMs:real,PerformanceBucket:string';
const container = `${every},ContainerAppName:string,RevisionName:string,ReplicaName:string,Log:string`;
const tables = {
  AppTraces: `${app},Message:string,SeverityLevel:int`,
  AppRequests: `${app},Id:string,Source:string,Url:string,${call}`,
  AppDependencies: `${app},Id:string,Target:string,DependencyType:string,Data:string,${call}`,
  AppExceptions: `${app},ProblemId:string,ExceptionType:string,OuterMessage:string,InnermostMessage:string,SeverityLevel:int,Details:dynamic`,
  AppMetrics: `${app},Name:string,Sum:real,Min:real,Max:real`,
  AzureDiagnostics: `${every},ResourceId:string,Category:string,ResourceProvider:string,Resource:string,ResourceType:string,ResultType:string,` +
    'ResultSignature:string,CallerIPAddress:string,httpStatusCode_d:real,id_s:string,OperationName:string,identity_claim_appid_g:string',
  AzureMetrics: `${every},MetricName:string,Total:real,Average:real,Maximum:real,ResourceId:string`,
  ContainerAppConsoleLogs: `${container},Stream:string,ContainerName:string`,
  ContainerAppSystemLogs: `${container},Reason:string,EventSource:string,Level:string,Count:int`,
  StorageQueueLogs: `${every},OperationName:string,StatusCode:string,StatusText:string,AccountName:string,Uri:string,CallerIpAddress:string`,
  _LogOperation: `${every},Category:string,Operation:string,Level:string,Detail:string,Solution:string`,
};
const symbols = Object.entries(tables).map(([name, columns]) => Symbols.TableSymbol.From(`(${columns})`).WithName(name));
const database = new Symbols.DatabaseSymbol.$ctor1('workspace', System.Array.init(symbols, Symbols.Symbol), false);
const globals = GlobalState.Default.WithDatabase(database);

const queries = [];
function collect(where, value) {
  if (!value || typeof value !== 'object') return;
  for (const [key, inner] of Object.entries(value)) {
    if (key === 'query' && typeof inner === 'string') queries.push([where, inner]);
    else collect(`${where}/${key}`, inner);
  }
}
for (const file of process.argv.slice(2)) {
  const text = fs.readFileSync(file, 'utf8');
  if (file.endsWith('.kql')) queries.push([file, text]);
  else if (file.endsWith('.json')) collect(file, JSON.parse(text));
  else for (const [, query] of text.matchAll(/```kql\n([\s\S]*?)```/g)) queries.push([file, query]);
}
let errors = 0;
for (const [where, text] of queries) {
  for (const found of Bridge.toArray(KustoCode.ParseAndAnalyze(text, globals).GetDiagnostics())) {
    errors += found.Severity === 'Error';
    console.log(`${where}: ${found.Severity} ${found.Code} ${found.Message} ${JSON.stringify(text.slice(found.Start, found.Start + 60))}`);
  }
}
console.log(`${queries.length} queries, ${errors} errors`);
process.exit(errors ? 1 : 0);
