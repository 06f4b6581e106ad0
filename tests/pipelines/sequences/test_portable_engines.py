"""The flags of docs/engines.md are flags of this Beam, and the graph is a portable pipeline with all its code."""

import re
import tomllib
from pathlib import Path

import pytest
from apache_beam.runners.portability.portable_runner import PortableRunner

from pipelines.interests.list_job import ListTask, write_bucket
from pipelines.interests.rank_job import RankTask, rank_bucket
from pipelines.sequences.beam_job import PipelineOptions, pipeline_of
from pipelines.sequences.bucket import BucketTask, build_bucket
from pipelines.sequences.build import runner_options
from pipelines.settings.imsr_toml import SequencesSettings

DOCS = Path(__file__).parents[3] / "docs" / "engines.md"
SETTINGS = [tomllib.loads(text) for text in re.findall("```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)]
EXAMPLES = [settings["sequences"] for settings in SETTINGS if "sequences" in settings]
WORK = {
    "sequences": ([BucketTask("a", "b", "c", "out", 5)], build_bucket),
    "lists": ([ListTask("w", "v", 0, 5, 20, "{}", "out")], write_bucket),
    "ranks": ([RankTask("w", "v", "s", 0, 5, 20, "out")], rank_bucket),
}


def test_the_page_shows_the_engines():
    assert [example["runner"] for example in EXAMPLES] == [
        "FnApiRunner",
        "DaskRunner",
        "FlinkRunner",
        "PortableRunner",
        "DataflowRunner",
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["runner"])
def test_beam_knows_every_flag(example):
    if example["runner"] == "DaskRunner":
        pytest.importorskip("distributed")
    options = runner_options(SequencesSettings(**example))
    assert set(options.beam_flags) <= set(options.flags(16))
    assert not options.is_one_process


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("example", EXAMPLES[2:4], ids=lambda example: example["runner"])
def test_the_graph_is_a_portable_pipeline(name, example):
    tasks, do = WORK[name]
    flags = PipelineOptions(runner_options(SequencesSettings(**example)).flags(len(tasks)))
    proto = PortableRunner().get_proto_pipeline(pipeline_of(tasks, do, flags), flags)
    kinds = {transform.spec.urn for transform in proto.components.transforms.values()}
    assert "beam:transform:pardo:v1" in kinds
    assert "beam:transform:group_by_key:v1" in kinds
    assert "beam:env:external:v1" in {environment.urn for environment in proto.components.environments.values()}
    assert type(proto).FromString(proto.SerializeToString()) == proto
