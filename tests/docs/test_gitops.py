"""Check the values of the chart inside the objects of docs/gitops.md."""

import yaml

from tests.docs.yaml_kinds import check_chart_values
from tests.support.documents import blocks

PAGE = "docs/gitops.md"


def test_values_of_each_tool_match_the_schema_of_the_chart() -> None:
    objects = [each for block in blocks(PAGE, language="yaml") for each in yaml.safe_load_all(block.text)]
    specs = {each["kind"]: each["spec"] for each in objects}
    values = [specs["Application"]["source"]["helm"]["valuesObject"], specs["HelmRelease"]["values"]]
    for found in values:
        check_chart_values(found)
        assert found["region"]
