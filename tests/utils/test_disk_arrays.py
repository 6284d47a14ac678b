import tracemalloc

import numpy as np

from keras_mhdeblur.utils import disk_arrays


def test_arrays_on_disk_hold_values_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tracemalloc.start()
    try:
        array = disk_arrays.empty((500, 1000, 3), "uint16", disk=True)
        array[...] = np.arange(1000, dtype="uint16")[:, None]
        assert tracemalloc.get_traced_memory()[1] < 1e5
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(array[499, :, 2], np.arange(1000))
    del array
    assert not list(tmp_path.iterdir())


def test_views_are_where_their_array_is():
    for disk in (True, False):
        array = disk_arrays.empty((4, 5, 3), "uint8", disk)
        assert disk_arrays.on_disk(array) == disk
        assert disk_arrays.on_disk(array[::-1, :, :1].swapaxes(0, 1)) == disk
        assert not disk_arrays.on_disk(array.copy())


def test_a_budget_is_spent_on_what_fits():
    budget = disk_arrays.Budget(10)
    disk = [disk_arrays.on_disk(budget.empty((n,), "uint16")) for n in (4, 2, 1, 1)]
    assert disk == [False, True, False, True]
