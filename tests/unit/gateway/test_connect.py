"""How the gateway reaches its table: by a connection string, or by an identity, whose token goes out by https only."""

import pytest
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from gateway.connect import table_of
from gateway.table import REPORTS, TABLE
from shared.storage import connect

CONNECTION = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;EndpointSuffix=core.windows.net"
URI = "AzureWebJobsStorage__tableServiceUri"
ADDRESS = "https://acct.table.core.windows.net"


def credential_of(environ: dict[str, str]) -> object:
    return vars(table_of(environ, TABLE))["credential"]


def test_a_connection_string_should_be_used_where_there_is_one() -> None:
    table = table_of({"AzureWebJobsStorage": CONNECTION, URI: "https://other.table.core.windows.net"}, TABLE)
    assert (table.account_name, table.table_name) == ("acct", "gpulaunch")


@pytest.mark.parametrize(
    ("given", "kind"), [({"AZURE_CLIENT_ID": "id"}, ManagedIdentityCredential), ({}, DefaultAzureCredential)]
)
def test_an_address_alone_should_be_used_with_an_identity(given: dict[str, str], kind: type) -> None:
    environ = {URI: ADDRESS, "AzureWebJobsStorage": "", **given}
    assert table_of(environ, TABLE).url == ADDRESS
    assert isinstance(credential_of(environ), kind)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "set AzureWebJobsStorage, or"),
        ({"AzureWebJobsStorage": "nonsense"}, "not a storage connection string"),
        ({URI: "http://acct.table.core.windows.net"}, "has to begin with https://"),
    ],
)
def test_what_names_no_safe_account_should_be_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_of(environ, TABLE)


def test_the_tables_should_be_those_that_the_app_makes() -> None:
    assert (TABLE, REPORTS) == (connect.TABLE, connect.REPORTS)
    assert table_of({"AzureWebJobsStorage": CONNECTION}, REPORTS).table_name == REPORTS
