"""The type that a model computes in."""

import keras

from keras_stm.arguments import functional_model, one_of
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.precisions import PRECISIONS

# In bfloat16, scores have three digits. These layers are a thousandth of the work.
_FLOAT32 = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.Softmax,
)


def in_precision(model, precision):
    """Returns a model in the precision that its scores are computed in.

    Args:
        model: a model that `keras_stm.fold_batch_norm` accepts. It is not changed.
        precision: `"float32"` returns `model` itself, also if it was made in mixed precision.
            `"bfloat16"` returns a copy for inference with BatchNormalization folded, which computes in
            bfloat16. Its weights and its classifier stay in float32. On processors without instructions for
            bfloat16, and under JAX on a CPU, it is slower than float32.

    Raises:
        ValueError: `precision` is not as above, or BatchNormalization cannot be folded.
    """
    if one_of("precision", precision, PRECISIONS) == "float32":
        return model
    return with_dtype_policy(fold_batch_norm(model), "mixed_bfloat16", _FLOAT32)


def with_dtype_policy(model, name, float32=()):
    """Returns a copy of a functional model whose layers have another dtype policy.

    Args:
        model: functional `keras.Model`, or a `Sequential` with a known input shape. It is not changed.
        name: name of the policy.
        float32: tuple of the classes of the layers whose policy is `"float32"` instead.
    """

    def clone(layer):
        if isinstance(layer, keras.Function | keras.Sequential):
            return with_dtype_policy(layer, name, float32)
        policy = keras.DTypePolicy("float32" if isinstance(layer, float32) else name)
        config = _replace_policies(layer.get_config(), keras.dtype_policies.serialize(policy))
        return type(layer).from_config(config)

    model = functional_model(model)
    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _replace_policies(config, policy):
    """Returns the configuration of a layer with another policy in it and in the layers that it contains."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return policy
        return {key: _replace_policies(value, policy) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_replace_policies(value, policy) for value in config)
    return config
