from export import resident_memory


def test_the_peak_is_kept_until_it_is_reset() -> None:
    resident_memory.reset_peak()
    before = resident_memory.resident_bytes()
    block = bytearray(64 * 2**20)
    assert resident_memory.peak_bytes() >= before + 60 * 2**20
    del block
    resident_memory.reset_peak()
    assert resident_memory.peak_bytes() < before + 60 * 2**20
