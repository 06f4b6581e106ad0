"""What a strategy remembers of users: written, read back, and gone with the user."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.interests.memory_files import read_user_memory, write_user_memory
from pipelines.workspace.parquet_files import ParquetFileError

MEMORY = {
    "ader.user": torch.tensor([3, 3, 9]),
    "ader.items": torch.tensor([[1, 2, -1], [4, -1, -1], [5, 6, 7]]),
    "ader.logits": torch.tensor([[0.5, -1.0], [2.0, 3.0], [0.25, 0.0]]),
    "ids.user": torch.tensor([9, 12]),
    "ids.given": torch.tensor([4, 7]),
}


def test_every_tensor_comes_back_as_it_was(tmp_path):
    write_user_memory(MEMORY, tmp_path)
    found = read_user_memory(tmp_path)
    assert found.keys() == MEMORY.keys()
    for name, tensor in MEMORY.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_nothing_remembered_is_no_file(tmp_path):
    write_user_memory({}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_user_memory(tmp_path) == {}


@pytest.mark.parametrize("users", [[9], [3, 9]])
def test_rows_of_a_user_can_be_taken_out_without_knowing_the_strategy(tmp_path, users):
    write_user_memory(MEMORY, tmp_path)
    path = tmp_path / "memory-ader.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.filter(pc.invert(pc.is_in(whole["user_index"], pa.array(users)))), path)
    found = read_user_memory(tmp_path)
    stays = ~torch.isin(MEMORY["ader.user"], torch.tensor(users))
    for name in ("ader.user", "ader.items", "ader.logits"):
        assert torch.equal(found[name], MEMORY[name][stays])
    assert torch.equal(found["ids.given"], MEMORY["ids.given"])


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "memory-ader.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ParquetFileError, match=r"memory-ader\.parquet"):
        read_user_memory(tmp_path)
