"""Regenerate the small Keras networks of tests/golden/keras with their inputs and outputs.

Run it where Keras 3 and a backend are installed (pip install keras torch), and for the network
"tensorflow" where Keras 2.13 is (pip install tensorflow==2.13.1); the tests need neither. The
weights are random, from a fixed seed; Keras computes the outputs.
"""

import argparse
import os
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "keras"


def models(keras):
    """Networks by name: between them every layer that is read."""
    layers = keras.layers
    dense = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Rescaling(0.5, offset=-0.1),
            layers.Dense(7, activation="sigmoid"),
            layers.BatchNormalization(),
            layers.Dense(6, activation="tanh", use_bias=False),
            layers.Dropout(0.5),
            layers.Dense(5),
            layers.LeakyReLU(0.2),
            layers.Dense(4, activation="softplus"),
            layers.Dense(3),
            layers.Activation("softmax"),
        ]
    )
    convolutional = keras.Sequential(
        [
            layers.Input((9, 8, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.ReLU(6),
            layers.ZeroPadding2D(((1, 0), (0, 1))),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu"),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.Conv2D(6, 3, padding="same", dilation_rate=2, groups=2, activation="silu"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    x = layers.Input((6, 6, 2))
    y = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    z = layers.BatchNormalization(center=False)(y)
    z = layers.Activation("relu")(z)
    z = layers.SeparableConv2D(4, 3, padding="same", activation="gelu")(z)
    y = layers.Add()([y, z])
    y = layers.Concatenate()([layers.LeakyReLU(0.1)(y), x])
    y = keras.Sequential(
        [
            layers.Input((6, 6, 6)),
            layers.Conv2D(3, 2, activation="hard_silu"),
            layers.Permute((3, 1, 2)),
        ],
        name="head",
    )(y)
    y = layers.Flatten()(y)
    residual = keras.Model(x, layers.Dense(3)(layers.Reshape((75,))(y)))
    first = keras.Sequential(
        [
            layers.Input((2, 5, 4)),
            layers.Conv2D(3, 2, data_format="channels_first", activation="relu"),
            layers.BatchNormalization(axis=1),
            layers.MaxPooling2D((2, 1), data_format="channels_first"),
            layers.Flatten(data_format="channels_first"),
            layers.Dense(2),
        ]
    )
    pooled = keras.Sequential(
        [
            layers.Input((5, 5, 2)),
            layers.Conv2D(3, 3, activation="tanh"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Softmax(),
        ]
    )
    line = keras.Sequential(
        [
            layers.Input((12, 3)),
            layers.TimeDistributed(layers.Dense(4, activation="elu")),
            layers.ZeroPadding1D((2, 1)),
            layers.Conv1D(6, 3, dilation_rate=2, padding="causal", groups=2, activation="selu"),
            layers.MaxPooling1D(3, strides=2, padding="same"),
            layers.SeparableConv1D(5, 2, depth_multiplier=2, padding="same"),
            layers.ReLU(0.7),
            layers.AveragePooling1D(2),
            layers.DepthwiseConv1D(2, activation="mish"),
            layers.Dense(5, activation="hard_tanh"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, activation="celu"),
            layers.ELU(0.5),
            layers.Dense(3),
        ]
    )
    x = layers.Input((7, 2))
    y = layers.Conv1D(4, 3, strides=2, use_bias=False)(x)
    y = layers.GlobalMaxPooling1D(keepdims=True)(keras.ops.gelu(y))
    y = layers.Dense(4)(layers.Flatten()(y))
    y = layers.Dense(4)(keras.ops.elu(y, alpha=0.3))
    gelus = keras.Model(x, layers.Dense(2)(keras.ops.selu(keras.ops.hard_tanh(y))))
    x = layers.Input((6,), name="x")
    y = layers.Rescaling(np.array([1.0, 2, 3, 4, 5, 6]))(2.0 * (1 - x / 4) + np.arange(6.0))
    y = layers.Normalization(mean=[1.0, 2, 3, 4, 5, 6], variance=[1.0, 2, 3, 4, 5, 6])(y)
    a, b = layers.Dense(4, activation="tanh")(y), layers.Dense(4)(y)
    b = layers.PReLU(keras.initializers.Constant(0.25), name="slopes")(b)
    y = layers.Average()([layers.Subtract()([a, b]), a, layers.Identity()(b)])
    y = keras.ops.relu(keras.ops.reshape(keras.ops.concatenate([y, -b], axis=-1), (-1, 2, 4)))
    operations = keras.Model({"x": x}, {"y": layers.Dense(3)(layers.Flatten()(y))})
    return {
        "operations": operations,
        "dense": dense,
        "convolutional": convolutional,
        "residual": residual,
        "channels_first": first,
        "pooled": pooled,
        "line": line,
        "gelus": gelus,
        "twice": twice(keras),
    }


def twice(keras):
    """Layers and a model of which several parts of a network have the weights."""
    layers = keras.layers
    encode = keras.Sequential(
        [layers.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="encode"
    )
    x, step = layers.Input((8,)), layers.Dense(8, activation="tanh", name="step")
    y = step(step(x))
    left, right = layers.Dense(4, name="left")(y), layers.Dense(4, name="right")(step(y))
    y = layers.Concatenate()([encode(left), encode(right), left])
    return keras.Model(x, layers.Dense(2)(layers.BatchNormalization()(y)))


def model_of_keras_2(keras):
    """Names with "/" in a model inside another, functions of TensorFlow; layers used twice."""
    layers = keras.layers
    x = layers.Input((5, 4, 3))
    y = layers.Conv2D(4, 2, activation="relu", name="first/conv")(x)
    y = layers.BatchNormalization(name="first/bn")(y)
    y = layers.Conv2D(4, 2, padding="same")(y)
    y = layers.BatchNormalization(name="bn")(y)
    base = keras.Model(x, y, name="base")
    x = layers.Input((5, 4, 3))
    y = layers.GlobalAveragePooling2D()(base(1.0 - 2.0 * (x / 4.0)))
    head = [layers.Input((4,)), layers.Dense(5, activation="tanh"), layers.Dense(4)]
    y = layers.Dense(4)(1.0 - keras.Sequential(head)(y)) - y
    model = keras.Model(x, layers.Dense(3, activation="softmax")(y))
    return {"tensorflow": model, "twice_tensorflow": twice(keras)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of the networks; by default all")
    names = parser.parse_args().names
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = models(keras) if hasattr(keras, "ops") else model_of_keras_2(keras)
    for name, model in made.items():
        if names and name not in names:
            continue
        for layer in model.layers:
            if layer.name == "slopes":
                continue
            # Trained normalisation and biases are no ones and zeros.
            layer.set_weights(
                [
                    w if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape).astype(w.dtype)
                    for w in layer.get_weights()
                ]
            )
        shape = model.input_shape
        shape = next(iter(shape.values())) if isinstance(shape, dict) else shape
        inputs = rng.normal(size=(8, *shape[1:])).astype(np.float32)
        outputs = model({"x": inputs} if name == "operations" else inputs, training=False)
        outputs = outputs["y"] if name == "operations" else outputs
        outputs = np.asarray(getattr(outputs, "detach", outputs.numpy)())
        model.save(FOLDER / f"{name}.keras")
        model.save(FOLDER / f"{name}.h5")
        np.savez(FOLDER / f"{name}.npz", inputs=inputs, outputs=outputs)
        print(f"{name}: {model.count_params()} parameters")


if __name__ == "__main__":
    main()
