/*
 * The client protocol of the family, releases 0.12 to 2.0 merged: one service, each struct with the
 * union of the fields of all releases. Names are never on the wire; ids and types are.
 * thrift/README.md tells who added which field. Source: client-protocol reference, sections 2 and 3.
 *
 * Requests: fields that a release marks "required" have the default requiredness here: writers send
 * them, the server requires nothing and reads by (id, type). Responses keep their required fields,
 * because clients throw when one is missing.
 *
 * Left out: handshake, pipeTransfer, pipeSubscribe. Their argument has field id -1, which no current
 * compiler takes without a switch; they answer UNKNOWN_METHOD, which every client survives.
 */
namespace py gen.client

/* ---- Status and endpoint ---- */

struct TEndPoint {
  1: required string ip
  2: required i32 port
}

struct TSStatus {
  1: required i32 code
  2: optional string message
  3: optional list<TSStatus> subStatus
  4: optional TEndPoint redirectNode
  5: optional bool needRetry
  6: optional binary responseData
}

/* ---- Session ---- */

enum TSProtocolVersion {
  IOTDB_SERVICE_PROTOCOL_V1 = 0
  IOTDB_SERVICE_PROTOCOL_V2 = 1
  IOTDB_SERVICE_PROTOCOL_V3 = 2
}

struct TSOpenSessionReq {
  1: TSProtocolVersion client_protocol = TSProtocolVersion.IOTDB_SERVICE_PROTOCOL_V3
  2: string zoneId
  3: optional string username
  4: optional string password
  5: optional map<string, string> configuration
}

struct TSOpenSessionResp {
  1: required TSStatus status
  2: required TSProtocolVersion serverProtocolVersion = TSProtocolVersion.IOTDB_SERVICE_PROTOCOL_V1
  3: optional i64 sessionId
  4: optional map<string, string> configuration
}

struct TSCloseSessionReq {
  1: i64 sessionId
}

struct TSGetTimeZoneResp {
  1: required TSStatus status
  2: required string timeZone
}

struct TSSetTimeZoneReq {
  1: i64 sessionId
  2: string timeZone
}

struct TSGetSystemStatusResp {
  1: required TSStatus status
  2: required string systemStatus
}

enum TSConnectionType {
  THRIFT_BASED = 0
  MQTT_BASED = 1
  INTERNAL = 2
  REST_BASED = 3
}

struct TSConnectionInfo {
  1: required string userName
  2: required i64 logInTime
  3: required string connectionId
  4: required TSConnectionType type
}

struct TSConnectionInfoResp {
  1: required list<TSConnectionInfo> connectionInfoList
}

struct TSBackupConfigurationResp {
  1: required TSStatus status
  2: optional bool enableOperationSync
  3: optional string secondaryAddress
  4: optional i32 secondaryPort
}

struct TShowConfigurationTemplateResp {
  1: required TSStatus status
  2: required string content
}

struct TShowConfigurationResp {
  1: required TSStatus status
  2: required string content
}

/*
 * Ids 5 to 8 mean other things in 0.13/1.0 (watermark settings) than in 1.3/2.0; a reader that expects
 * another type skips the field. 9 and 10 are 0.13's places for what 1.3 has at 5 and 6: send both.
 */
struct ServerProperties {
  1: required string version
  2: required list<string> supportedTimeAggregationOperations
  3: required string timestampPrecision
  4: optional i32 maxConcurrentClientNum
  5: optional i32 thriftMaxFrameSize
  6: optional bool isReadOnly
  7: optional string buildInfo
  8: optional string logo
  9: optional i32 thriftMaxFrameSizeV013
  10: optional bool isReadOnlyV013
}

/* ---- Statements and results ---- */

struct TSExecuteStatementReq {
  1: i64 sessionId
  2: string statement
  3: i64 statementId
  4: optional i32 fetchSize
  5: optional i64 timeout
  6: optional bool enableRedirectQuery
  7: optional bool jdbcQuery
}

struct TSExecuteBatchStatementReq {
  1: i64 sessionId
  2: list<string> statements
}

struct TSQueryDataSet {
  1: required binary time
  2: required list<binary> valueList
  3: required list<binary> bitmapList
}

struct TSQueryNonAlignDataSet {
  1: required list<binary> timeList
  2: required list<binary> valueList
}

struct TSTracingInfo {
  1: required list<string> activityList
  2: required list<i64> elapsedTimeList
  3: optional i32 seriesPathNum
  4: optional i32 seqFileNum
  5: optional i32 unSeqFileNum
  6: optional i32 sequenceChunkNum
  7: optional i64 sequenceChunkPointNum
  8: optional i32 unsequenceChunkNum
  9: optional i64 unsequenceChunkPointNum
  10: optional i32 totalPageNum
  11: optional i32 overlappedPageNum
}

struct TSExecuteStatementResp {
  1: required TSStatus status
  2: optional i64 queryId
  3: optional list<string> columns
  4: optional string operationType
  5: optional bool ignoreTimeStamp
  6: optional list<string> dataTypeList
  7: optional TSQueryDataSet queryDataSet
  8: optional TSQueryNonAlignDataSet nonAlignQueryDataSet
  9: optional map<string, i32> columnNameIndexMap
  10: optional list<string> sgColumns
  11: optional list<i8> aliasColumns
  12: optional TSTracingInfo tracingInfo
  13: optional list<binary> queryResult
  14: optional bool moreData
  15: optional string database
  16: optional bool tableModel
  17: optional list<i32> columnIndex2TsBlockColumnIndexList
}

struct TSFetchResultsReq {
  1: i64 sessionId
  2: string statement
  3: i32 fetchSize
  4: i64 queryId
  5: bool isAlign
  6: optional i64 timeout
  7: optional i64 statementId
}

struct TSFetchResultsResp {
  1: required TSStatus status
  2: required bool hasResultSet
  3: required bool isAlign
  4: optional TSQueryDataSet queryDataSet
  5: optional TSQueryNonAlignDataSet nonAlignQueryDataSet
  6: optional list<binary> queryResult
  7: optional bool moreData
}

struct TSCloseOperationReq {
  1: i64 sessionId
  2: optional i64 queryId
  3: optional i64 statementId
  4: optional string preparedStatementName
}

struct TSCancelOperationReq {
  1: i64 sessionId
  2: i64 queryId
}

/* unused by every release; kept because the IDLs have it */
struct TSGetOperationStatusReq {
  1: i64 sessionId
  2: i64 queryId
}

struct TSFetchMetadataReq {
  1: i64 sessionId
  2: string type
  3: optional string columnPath
}

struct TSFetchMetadataResp {
  1: required TSStatus status
  2: optional string metadataInJson
  3: optional list<string> columnsList
  4: optional string dataType
}

/* start <= time < end */
struct TSRawDataQueryReq {
  1: i64 sessionId
  2: list<string> paths
  3: optional i32 fetchSize
  4: i64 startTime
  5: i64 endTime
  6: i64 statementId
  7: optional bool enableRedirectQuery
  8: optional bool jdbcQuery
  9: optional i64 timeout
  10: optional bool legalPathNodes
}

/* time >= the given one */
struct TSLastDataQueryReq {
  1: i64 sessionId
  2: list<string> paths
  3: optional i32 fetchSize
  4: i64 time
  5: i64 statementId
  6: optional bool enableRedirectQuery
  7: optional bool jdbcQuery
  8: optional i64 timeout
  9: optional bool legalPathNodes
}

struct TSFastLastDataQueryForOneDeviceReq {
  1: i64 sessionId
  2: string db
  3: string deviceId
  4: list<string> sensors
  5: optional i32 fetchSize
  6: i64 statementId
  7: optional bool enableRedirectQuery
  8: optional bool jdbcQuery
  9: optional i64 timeout
  10: optional bool legalPathNodes
}

struct TSFastLastDataQueryForOnePrefixPathReq {
  1: i64 sessionId
  2: list<string> prefixes
  3: optional i32 fetchSize
  4: i64 statementId
  5: optional bool enableRedirectQuery
  6: optional bool jdbcQuery
  7: optional i64 timeout
}

enum TAggregationType {
  COUNT = 0
  AVG = 1
  SUM = 2
  FIRST_VALUE = 3
  LAST_VALUE = 4
  MAX_TIME = 5
  MIN_TIME = 6
  MAX_VALUE = 7
  MIN_VALUE = 8
  EXTREME = 9
  COUNT_IF = 10
  TIME_DURATION = 11
  MODE = 12
  COUNT_TIME = 13
  STDDEV = 14
  STDDEV_POP = 15
  STDDEV_SAMP = 16
  VARIANCE = 17
  VAR_POP = 18
  VAR_SAMP = 19
  MAX_BY = 20
  MIN_BY = 21
  UDAF = 22
  FIRST = 23
  LAST = 24
  FIRST_BY = 25
  LAST_BY = 26
  MIN = 27
  MAX = 28
  COUNT_ALL = 29
  APPROX_COUNT_DISTINCT = 30
  APPROX_MOST_FREQUENT = 31
  APPROX_PERCENTILE = 32
  CORR = 33
  COVAR_POP = 34
  COVAR_SAMP = 35
  REGR_SLOPE = 36
  REGR_INTERCEPT = 37
  SKEWNESS = 38
  KURTOSIS = 39
  PERCENTILE = 40
}

/* interval set: windows over [start, end); else start <= time < end where set */
struct TSAggregationQueryReq {
  1: i64 sessionId
  2: i64 statementId
  3: list<string> paths
  4: list<TAggregationType> aggregations
  5: optional i64 startTime
  6: optional i64 endTime
  7: optional i64 interval
  8: optional i64 slidingStep
  9: optional i32 fetchSize
  10: optional i64 timeout
  11: optional bool legalPathNodes
}

struct TSGroupByQueryIntervalReq {
  1: i64 sessionId
  2: i64 statementId
  3: string device
  4: string measurement
  5: i32 dataType
  6: TAggregationType aggregationType
  7: optional string database
  8: optional i64 startTime
  9: optional i64 endTime
  10: optional i64 interval
  11: optional i32 fetchSize
  12: optional i64 timeout
  13: optional bool isAligned
}

struct TSPrepareReq {
  1: i64 sessionId
  2: string sql
  3: string statementName
}

struct TSPrepareResp {
  1: required TSStatus status
  2: optional i32 parameterCount
}

struct TSExecutePreparedReq {
  1: i64 sessionId
  2: string statementName
  3: binary parameters
  4: optional i32 fetchSize
  5: optional i64 timeout
  6: i64 statementId
}

struct TSDeallocatePreparedReq {
  1: i64 sessionId
  2: string statementName
}

/* ---- Writes. Field 2 is called deviceId(s) in 0.12 ---- */

struct TSInsertRecordReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<string> measurements
  4: binary values
  5: i64 timestamp
  6: optional bool isAligned
  7: optional bool isWriteToTable
  8: optional list<i8> columnCategoryies
}

struct TSInsertStringRecordReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<string> measurements
  4: list<string> values
  5: i64 timestamp
  6: optional bool isAligned
  7: optional i64 timeout
}

struct TSInsertRecordsReq {
  1: i64 sessionId
  2: list<string> prefixPaths
  3: list<list<string>> measurementsList
  4: list<binary> valuesList
  5: list<i64> timestamps
  6: optional bool isAligned
}

struct TSInsertStringRecordsReq {
  1: i64 sessionId
  2: list<string> prefixPaths
  3: list<list<string>> measurementsList
  4: list<list<string>> valuesList
  5: list<i64> timestamps
  6: optional bool isAligned
}

struct TSInsertRecordsOfOneDeviceReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<list<string>> measurementsList
  4: list<binary> valuesList
  5: list<i64> timestamps
  6: optional bool isAligned
}

struct TSInsertStringRecordsOfOneDeviceReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<list<string>> measurementsList
  4: list<list<string>> valuesList
  5: list<i64> timestamps
  6: optional bool isAligned
}

struct TSInsertTabletReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<string> measurements
  4: binary values
  5: binary timestamps
  6: list<i32> types
  7: i32 size
  8: optional bool isAligned
  9: optional bool writeToTable
  10: optional list<i8> columnCategories
  11: optional bool isCompressed
  12: optional list<i8> encodingTypes
  13: optional i8 compressType
}

struct TSInsertTabletsReq {
  1: i64 sessionId
  2: list<string> prefixPaths
  3: list<list<string>> measurementsList
  4: list<binary> valuesList
  5: list<binary> timestampsList
  6: list<list<i32>> typesList
  7: list<i32> sizeList
  8: optional bool isAligned
}

/* closed range; the 0.12 Python client omits 4 and puts the upper bound in 3 */
struct TSDeleteDataReq {
  1: i64 sessionId
  2: list<string> paths
  3: i64 startTime
  4: i64 endTime
}

/* ---- Metadata ---- */

struct TSCreateTimeseriesReq {
  1: i64 sessionId
  2: string path
  3: i32 dataType
  4: i32 encoding
  5: i32 compressor
  6: optional map<string, string> props
  7: optional map<string, string> tags
  8: optional map<string, string> attributes
  9: optional string measurementAlias
}

struct TSCreateAlignedTimeseriesReq {
  1: i64 sessionId
  2: string prefixPath
  3: list<string> measurements
  4: list<i32> dataTypes
  5: list<i32> encodings
  6: list<i32> compressors
  7: optional list<string> measurementAlias
  8: optional list<map<string, string>> tagsList
  9: optional list<map<string, string>> attributesList
}

struct TSCreateMultiTimeseriesReq {
  1: i64 sessionId
  2: list<string> paths
  3: list<i32> dataTypes
  4: list<i32> encodings
  5: list<i32> compressors
  6: optional list<map<string, string>> propsList
  7: optional list<map<string, string>> tagsList
  8: optional list<map<string, string>> attributesList
  9: optional list<string> measurementAliasList
}

/* ---- Schema templates ---- */

/*
 * 0.12 has list<string> schemaNames at id 3 and further fields; a generated reader skips that shape by
 * its type and leaves serializedTemplate unset. Its ids 4 to 7 are kept, so that the server can tell.
 */
struct TSCreateSchemaTemplateReq {
  1: i64 sessionId
  2: string name
  3: binary serializedTemplate
  4: optional list<list<string>> measurements
  5: optional list<list<i32>> dataTypes
  6: optional list<list<i32>> encodings
  7: optional list<i32> compressors
}

struct TSAppendSchemaTemplateReq {
  1: i64 sessionId
  2: string name
  3: bool isAligned
  4: list<string> measurements
  5: list<i32> dataTypes
  6: list<i32> encodings
  7: list<i32> compressors
}

struct TSPruneSchemaTemplateReq {
  1: i64 sessionId
  2: string name
  3: string path
}

enum TTemplateQueryType {
  COUNT_MEASUREMENTS = 0
  IS_MEASUREMENT = 1
  PATH_EXIST = 2
  SHOW_MEASUREMENTS = 3
  SHOW_TEMPLATES = 4
  SHOW_SET_TEMPLATES = 5
  SHOW_USING_TEMPLATES = 6
}

struct TSQueryTemplateReq {
  1: i64 sessionId
  2: string name
  3: i32 queryType
  4: optional string measurement
}

struct TSQueryTemplateResp {
  1: required TSStatus status
  2: required i32 queryType
  3: optional bool result
  4: optional i32 count
  5: optional list<string> measurements
}

struct TSSetSchemaTemplateReq {
  1: i64 sessionId
  2: string templateName
  3: string prefixPath
}

/* the order differs from Set */
struct TSUnsetSchemaTemplateReq {
  1: i64 sessionId
  2: string prefixPath
  3: string templateName
}

struct TSSetUsingTemplateReq {
  1: i64 sessionId
  2: string dstPath
}

struct TSDropSchemaTemplateReq {
  1: i64 sessionId
  2: string templateName
}

struct TCreateTimeseriesUsingSchemaTemplateReq {
  1: i64 sessionId
  2: list<string> devicePathList
}

/* ---- Pipe and sync: servers of the family talk like this to each other ---- */

struct TSOperationSyncWriteReq {
  1: i64 sessionId
  2: i8 operationSyncType
  3: binary physicalPlan
}

struct TSyncIdentityInfo {
  1: string pipeName
  2: i64 createTime
  3: string version
  4: string database
}

struct TSyncTransportMetaInfo {
  1: string fileName
  2: i64 startIndex
}

struct TPipeTransferReq {
  1: i8 version
  2: i16 type
  3: binary body
}

struct TPipeTransferResp {
  1: required TSStatus status
  2: optional binary body
}

struct TPipeSubscribeReq {
  1: i8 version
  2: i16 type
  3: optional binary body
}

struct TPipeSubscribeResp {
  1: required TSStatus status
  2: required i8 version
  3: required i16 type
  4: optional list<binary> body
}

/* TSIService up to 0.13, IClientRPCService from 1.0 on; the name is never on the wire */
service IClientRPCService {
  TSOpenSessionResp openSession(1: TSOpenSessionReq req)
  TSStatus closeSession(1: TSCloseSessionReq req)
  i64 requestStatementId(1: i64 sessionId)
  TSGetTimeZoneResp getTimeZone(1: i64 sessionId)
  TSStatus setTimeZone(1: TSSetTimeZoneReq req)
  ServerProperties getProperties()

  TSExecuteStatementResp executeStatement(1: TSExecuteStatementReq req)
  TSExecuteStatementResp executeQueryStatement(1: TSExecuteStatementReq req)
  TSExecuteStatementResp executeUpdateStatement(1: TSExecuteStatementReq req)
  TSStatus executeBatchStatement(1: TSExecuteBatchStatementReq req)
  TSExecuteStatementResp executeRawDataQuery(1: TSRawDataQueryReq req)
  TSExecuteStatementResp executeLastDataQuery(1: TSLastDataQueryReq req)
  TSFetchResultsResp fetchResults(1: TSFetchResultsReq req)

  TSExecuteStatementResp executeStatementV2(1: TSExecuteStatementReq req)
  TSExecuteStatementResp executeQueryStatementV2(1: TSExecuteStatementReq req)
  TSExecuteStatementResp executeUpdateStatementV2(1: TSExecuteStatementReq req)
  TSExecuteStatementResp executeRawDataQueryV2(1: TSRawDataQueryReq req)
  TSExecuteStatementResp executeLastDataQueryV2(1: TSLastDataQueryReq req)
  TSFetchResultsResp fetchResultsV2(1: TSFetchResultsReq req)
  TSExecuteStatementResp executeFastLastDataQueryForOneDeviceV2(1: TSFastLastDataQueryForOneDeviceReq req)
  TSExecuteStatementResp executeFastLastDataQueryForOnePrefixPath(1: TSFastLastDataQueryForOnePrefixPathReq req)
  TSExecuteStatementResp executeAggregationQuery(1: TSAggregationQueryReq req)
  TSExecuteStatementResp executeAggregationQueryV2(1: TSAggregationQueryReq req)
  TSExecuteStatementResp executeGroupByQueryIntervalQuery(1: TSGroupByQueryIntervalReq req)

  TSPrepareResp prepareStatement(1: TSPrepareReq req)
  TSExecuteStatementResp executePreparedStatement(1: TSExecutePreparedReq req)
  TSStatus deallocatePreparedStatement(1: TSDeallocatePreparedReq req)

  TSStatus closeOperation(1: TSCloseOperationReq req)
  TSStatus cancelOperation(1: TSCancelOperationReq req)
  TSFetchMetadataResp fetchMetadata(1: TSFetchMetadataReq req)

  TSStatus setStorageGroup(1: i64 sessionId, 2: string storageGroup)
  TSStatus deleteStorageGroups(1: i64 sessionId, 2: list<string> storageGroup)
  TSStatus createTimeseries(1: TSCreateTimeseriesReq req)
  TSStatus createAlignedTimeseries(1: TSCreateAlignedTimeseriesReq req)
  TSStatus createMultiTimeseries(1: TSCreateMultiTimeseriesReq req)
  TSStatus deleteTimeseries(1: i64 sessionId, 2: list<string> path)
  TSStatus deleteData(1: TSDeleteDataReq req)

  TSStatus insertRecord(1: TSInsertRecordReq req)
  TSStatus insertStringRecord(1: TSInsertStringRecordReq req)
  TSStatus insertRecords(1: TSInsertRecordsReq req)
  TSStatus insertStringRecords(1: TSInsertStringRecordsReq req)
  TSStatus insertRecordsOfOneDevice(1: TSInsertRecordsOfOneDeviceReq req)
  TSStatus insertStringRecordsOfOneDevice(1: TSInsertStringRecordsOfOneDeviceReq req)
  TSStatus insertTablet(1: TSInsertTabletReq req)
  TSStatus insertTablets(1: TSInsertTabletsReq req)
  TSStatus testInsertRecord(1: TSInsertRecordReq req)
  TSStatus testInsertStringRecord(1: TSInsertStringRecordReq req)
  TSStatus testInsertRecords(1: TSInsertRecordsReq req)
  TSStatus testInsertStringRecords(1: TSInsertStringRecordsReq req)
  TSStatus testInsertRecordsOfOneDevice(1: TSInsertRecordsOfOneDeviceReq req)
  TSStatus testInsertTablet(1: TSInsertTabletReq req)
  TSStatus testInsertTablets(1: TSInsertTabletsReq req)

  TSStatus createSchemaTemplate(1: TSCreateSchemaTemplateReq req)
  TSStatus appendSchemaTemplate(1: TSAppendSchemaTemplateReq req)
  TSStatus pruneSchemaTemplate(1: TSPruneSchemaTemplateReq req)
  TSQueryTemplateResp querySchemaTemplate(1: TSQueryTemplateReq req)
  TSStatus setSchemaTemplate(1: TSSetSchemaTemplateReq req)
  TSStatus unsetSchemaTemplate(1: TSUnsetSchemaTemplateReq req)
  TSStatus setUsingTemplate(1: TSSetUsingTemplateReq req)
  TSStatus unsetUsingTemplate(1: i64 sessionId, 2: string templateName, 3: string prefixPath)
  TSStatus dropSchemaTemplate(1: TSDropSchemaTemplateReq req)
  TSStatus createTimeseriesUsingSchemaTemplate(1: TCreateTimeseriesUsingSchemaTemplateReq req)

  TSGetSystemStatusResp getSystemStatus(1: i64 sessionId)
  TSStatus executeOperationSync(1: TSOperationSyncWriteReq req)
  TSBackupConfigurationResp getBackupConfiguration()
  TSConnectionInfoResp fetchAllConnectionsInfo()
  TShowConfigurationTemplateResp showConfigurationTemplate()
  TShowConfigurationResp showConfiguration(1: i32 nodeId)
  TSStatus testConnectionEmptyRPC()
  TSStatus sendPipeData(1: binary buff)
  TSStatus sendFile(1: TSyncTransportMetaInfo metaInfo, 2: binary buff)
}
