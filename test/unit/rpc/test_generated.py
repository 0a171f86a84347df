"""The generated code: it is what the IDL gives, and it shadows nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t

ROOT = Path(__file__).resolve().parents[3]

# client-protocol 2.1, without those whose argument has field id -1
METHODS = """
openSession closeSession requestStatementId getTimeZone setTimeZone getProperties executeStatement
executeQueryStatement executeUpdateStatement executeBatchStatement executeRawDataQuery
executeLastDataQuery fetchResults executeStatementV2 executeQueryStatementV2
executeUpdateStatementV2 executeRawDataQueryV2 executeLastDataQueryV2 fetchResultsV2
executeFastLastDataQueryForOneDeviceV2 executeFastLastDataQueryForOnePrefixPath
executeAggregationQuery executeAggregationQueryV2 executeGroupByQueryIntervalQuery prepareStatement
executePreparedStatement deallocatePreparedStatement closeOperation cancelOperation fetchMetadata
setStorageGroup deleteStorageGroups createTimeseries createAlignedTimeseries createMultiTimeseries
deleteTimeseries deleteData insertRecord insertStringRecord insertRecords insertStringRecords
insertRecordsOfOneDevice insertStringRecordsOfOneDevice insertTablet insertTablets testInsertRecord
testInsertStringRecord testInsertRecords testInsertStringRecords testInsertRecordsOfOneDevice
testInsertTablet testInsertTablets createSchemaTemplate setSchemaTemplate appendSchemaTemplate
pruneSchemaTemplate unsetSchemaTemplate dropSchemaTemplate querySchemaTemplate setUsingTemplate
unsetUsingTemplate createTimeseriesUsingSchemaTemplate getSystemStatus executeOperationSync
getBackupConfiguration fetchAllConnectionsInfo showConfigurationTemplate showConfiguration
testConnectionEmptyRPC sendPipeData sendFile
"""


def test_every_method_is_there():
    assert set(IClientRPCService.Processor(None)._processMap) == set(METHODS.split())


def test_ids_and_types_of_clashing_fields():
    def fields(struct):
        return {spec[0]: (spec[2], spec[1]) for spec in struct.thrift_spec if spec}

    i32, boolean, string, array = 8, 2, 11, 15
    properties = fields(t.ServerProperties)
    assert [properties[number][1] for number in range(5, 11)] == [
        i32,
        boolean,
        string,
        string,
        i32,
        boolean,
    ]
    assert fields(t.TSCreateSchemaTemplateReq)[3] == ("serializedTemplate", string)
    assert fields(t.TSUnsetSchemaTemplateReq)[2] == ("prefixPath", string)
    assert fields(t.TSSetSchemaTemplateReq)[2] == ("templateName", string)
    assert fields(t.TSExecuteStatementResp)[11] == ("aliasColumns", array)
    assert max(fields(t.TSInsertTabletReq)) == 13
    assert t.TSOpenSessionReq().client_protocol == 2


def test_the_library_is_not_shadowed():
    """The folder thrift/ has no __init__.py: a regular package wins over it, wherever it is."""
    code = (
        "import thrift, thrift.Thrift; assert thrift.__file__ is not None; print(thrift.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert not Path(done.stdout.strip()).is_relative_to(ROOT / "thrift")
    assert not list((ROOT / "thrift").glob("*.py"))


def test_committed_code_is_what_the_idl_gives():
    if shutil.which("thrift") is None:
        pytest.skip("no Thrift compiler here")
    done = subprocess.run(
        [ROOT / "thrift" / "generate.sh", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[:3000] + done.stderr


def test_generator_without_a_compiler_says_so(tmp_path):
    done = subprocess.run(
        [ROOT / "thrift" / "generate.sh"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "THRIFT": str(tmp_path / "none")},
    )
    assert done.returncode == 2
    assert "no Thrift compiler" in done.stderr
