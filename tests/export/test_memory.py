from export import memory


def test_the_peak_is_remembered_until_it_is_forgotten() -> None:
    memory.forget_peak()
    before = memory.resident_bytes()
    block = bytearray(64 * 2**20)
    assert memory.peak_bytes() >= before + 60 * 2**20
    del block
    memory.forget_peak()
    assert memory.peak_bytes() < before + 60 * 2**20
