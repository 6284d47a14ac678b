"""Names and shapes of the weights in a file, and of those that a model would write.

Keras' private `saving_lib` is used in this module only.
"""

import h5py
from keras import ops
from keras.src.saving import saving_lib


def layout_of_file(path):
    """Path of every weight in an h5 file -> its shape and its layer's name."""
    with h5py.File(path) as file:
        return _layout(file)


def layout_of_model(model):
    """The same of the file that `model.save_weights` would write."""
    store = _ShapesOnly("layout", mode="w")
    saving_lib._save_state(model, store, None, "", set())
    layout = _layout(store.h5_file)
    store.close()
    return layout


def difference(expected, found):
    """The first difference of two layouts in words, or None."""
    for path, (shape, layer) in expected.items():
        if path not in found:
            return f"lacks {path} of layer {layer!r}"
        if found[path][0] != shape:
            return f"has shape {found[path][0]}, not {shape}, at {path} ({layer!r})"
    for path in found:
        if path not in expected:
            return f"has {path}, which is no weight of the model"
    return None


def _layout(file):
    shapes = {}

    def visit(path, item):
        if isinstance(item, h5py.Dataset):
            shapes[path] = item.shape, item.parent.attrs.get("name", "?")

    file.visititems(visit)
    return shapes


class _ShapesOnly(saving_lib.H5IOStore):
    """A file in memory whose data sets have shapes and no values."""

    def _get_h5_file(self, path_or_io, mode=None):
        return h5py.File(path_or_io, "w", driver="core", backing_store=False)

    def __setitem__(self, key, value):
        if not self._h5_entry_initialized:
            self._create_h5_group(self._h5_entry_path)
        # Nothing is allocated until it is written to.
        self._h5_entry_group.create_dataset(key, ops.shape(value))
