"""Why operations of other frameworks have no place in a network, and what to do about it."""

__all__ = ["BEHIND_THE_UNITS", "has_reason", "reason_against"]

# Of an argmax and the like.
BEHIND_THE_UNITS = (
    "expected the units or their softmax as the last step, for other read-outs are not known; "
    "leave this step out: the outputs are then those before it"
)

# Operators of ONNX, functions of ATen and layers of Keras by what keeps them out.
_REASONS: tuple[tuple[str, str], ...] = (
    (
        "LSTM GRU RNN lstm gru rnn_tanh rnn_relu lstm_cell gru_cell SimpleRNN Bidirectional "
        "ConvLSTM1D ConvLSTM2D ConvLSTM3D",
        "expected a feed-forward network, got a recurrent layer, for no layer keeps a state",
    ),
    (
        "Normalizer LayerNormalization GroupNormalization InstanceNormalization RMSNormalization "
        "LpNormalization MeanVarianceNormalization LRN layer_norm native_layer_norm group_norm "
        "native_group_norm instance_norm rms_norm linalg_vector_norm UnitNormalization",
        "expected a normalisation with trained statistics, batch normalisation, got one that "
        "divides by the spread of each input's own values, which is no layer",
    ),
    (
        "Attention MultiHeadAttention scaled_dot_product_attention _native_multi_head_attention "
        "glu bmm baddbmm cosine_similarity einsum Einsum bilinear "
        "AdditiveAttention GroupedQueryAttention Matmul",
        "expected products with constants, got one of two computed values (attention, a gate), "
        "for which there is no layer",
    ),
    (
        "ConvTranspose conv_transpose1d conv_transpose2d conv_transpose3d Upsample Resize "
        "upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
        "_upsample_nearest_exact2d repeat repeat_interleave Tile UpSampling1D UpSampling2D "
        "UpSampling3D Conv1DTranspose Conv2DTranspose Conv3DTranspose RepeatVector",
        "expected layers that keep or shrink a map, got one that enlarges it, for which there is "
        "no layer",
    ),
    (
        "Softsign ThresholdedRelu Shrink Erf Exp Log Abs Sqrt Pow Reciprocal "
        "Sin Cos Sign Floor Ceil Round softsign softshrink hardshrink erf exp "
        "log log1p expm1 abs sqrt rsqrt pow square reciprocal sin cos sign floor ceil round "
        "floor_divide remainder fmod cumsum",
        "expected an activation of neurosim (relu, leaky_relu, relu6, hard_swish, sigmoid, tanh, "
        "hard_tanh, softplus, silu, gelu, mish, elu), got another function of each value; train "
        "the network with one of these",
    ),
    (
        "conv3d max_pool3d avg_pool3d adaptive_avg_pool3d max_pool3d_with_indices Conv3D "
        "MaxPooling3D AveragePooling3D",
        "expected windows over one or two axes, got three",
    ),
    (
        "LogSoftmax log_softmax _log_softmax",
        "expected the units or their softmax as the last step, got the logarithm of the softmax; "
        "leave this step out (the outputs are then the units before it), or put a softmax in its "
        "place (the outputs are then the exponentials of these)",
    ),
    ("ArgMax TopK argmax topk sort argsort", BEHIND_THE_UNITS),
    (
        "rand_like randn_like bernoulli normal rrelu_with_noise native_dropout RandomNormalLike "
        "RandomUniformLike Bernoulli",
        "expected outputs that do not depend on chance; call eval() before exporting",
    ),
    (
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul "
        "ConvInteger MatMulInteger quantize_per_tensor dequantize fake_quantize_per_tensor_affine",
        "expected real numbers, got a quantised operator; export the network before it is "
        "quantised, and let the device of a chip round the weights",
    ),
    (
        "Imputer If Loop Scan cond while_loop where Where gt lt ge le eq ne Greater Less Equal",
        "expected the same steps for all inputs, got a choice that depends on the values",
    ),
    (
        "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor SVMClassifier SVMRegressor",
        "expected layers of neurons, Gemm or MatMul, got another kind of model",
    ),
    (
        "ArrayFeatureExtractor Gather GatherElements GatherND index index_select take "
        "gather flip roll",
        "expected values that stay in their order, or slices of them, got a look-up",
    ),
    (
        "Embedding embedding embedding_bag",
        "expected real numbers as inputs, got an embedding, a look-up by whole numbers; export the "
        "network behind it alone, whose inputs are what it looks up",
    ),
    (
        "min minimum amin Min ReduceMin",
        "expected sums, means or largest values, got the smallest, which no layer gives; those "
        "over the axes of a map are -amax(-x)",
    ),
    (
        "pairwise_distance cdist dist norm linalg_norm",
        "expected sums and differences, got a distance, whose parts are squared; let the network "
        "end with the difference and compute its length outside",
    ),
    (
        "GetItem SlicingOpLambda",
        "expected whole tensors, got a slice, which is read from ONNX and torch alone; export the "
        "model to ONNX",
    ),
    (
        "Lambda",
        "expected a layer that the file describes, got code (Lambda), which is not run; put layers "
        "or operations of keras.ops in its place",
    ),
)
_BY_NAME = {name: reason for names, reason in _REASONS for name in names.split()}


def has_reason(kind: str) -> bool:
    """Whether it is known what keeps an operation out."""
    return kind in _BY_NAME


def reason_against(kind: str, known: tuple[str, ...]) -> str:
    """Why an operation is not read; `known`: those that are, for one nobody has thought of."""
    return _BY_NAME.get(kind, f"expected one of {', '.join(known)}")
