namespace OnnxMorph.Tests.Testing;

/// <summary>Blocks of the architectures that networks are built of. Names of nodes carry no scopes unless given.</summary>
internal static class Architectures
{
    /// <summary>Convolution, batch norm where asked for, and Relu where asked for.</summary>
    public static string ConvUnit(this Net net, string x, int inputs, int outputs, int kernel = 3, int stride = 1, int group = 1, bool norm = true, string? activation = "Relu", string? name = null)
    {
        string y = net.Conv(x, inputs, outputs, kernel, group, name, new { pads = Enumerable.Repeat(kernel / 2, 4).ToArray(), strides = new[] { stride, stride } }, bias: !norm);
        y = norm ? net.BatchNorm(y, outputs) : y;
        return activation is null ? y : net.Op(activation, [y]);
    }

    /// <summary>ResNet's basic block (He et al. 2016), with a projection where sizes change.</summary>
    public static string Basic(this Net net, string x, int inputs, int outputs, int stride = 1, bool norm = true, string activation = "Relu", string? scope = null)
    {
        string y = net.ConvUnit(x, inputs, outputs, stride: stride, norm: norm, activation: activation, name: scope is null ? null : $"{scope}/conv1/Conv");
        y = net.ConvUnit(y, outputs, outputs, norm: norm, activation: null, name: scope is null ? null : $"{scope}/conv2/Conv");
        string skip = inputs == outputs && stride == 1 ? x : net.ConvUnit(x, inputs, outputs, 1, stride, norm: norm, activation: null, name: scope is null ? null : $"{scope}/down/Conv");
        return net.Op(activation, [net.Add(y, skip)]);
    }

    /// <summary>ResNet's bottleneck, the inner width a quarter of the outer.</summary>
    public static string Bottleneck(this Net net, string x, int inputs, int outputs, int stride = 1, bool norm = true)
    {
        string y = net.ConvUnit(x, inputs, outputs / 4, 1, norm: norm);
        y = net.ConvUnit(net.ConvUnit(y, outputs / 4, outputs / 4, stride: stride, norm: norm), outputs / 4, outputs, 1, norm: norm, activation: null);
        return net.Relu(net.Add(y, inputs == outputs && stride == 1 ? x : net.ConvUnit(x, inputs, outputs, 1, stride, norm: norm, activation: null)));
    }

    /// <summary>A pre-activation block (He et al. 2016, identity mappings); a projection reads the activated input.</summary>
    public static string PreActivation(this Net net, string x, int inputs, int outputs, int stride = 1)
    {
        string active = net.Relu(net.BatchNorm(x, inputs));
        string skip = inputs == outputs && stride == 1 ? x : net.ConvUnit(active, inputs, outputs, 1, stride, norm: false, activation: null);
        string y = net.Relu(net.BatchNorm(net.ConvUnit(active, inputs, outputs, stride: stride, norm: false, activation: null), outputs));
        return net.Add(net.ConvUnit(y, outputs, outputs, norm: false, activation: null), skip);
    }

    /// <summary>MobileNetV2's inverted residual (Sandler et al. 2018): no skip where sizes change, no activation at its end.</summary>
    public static string InvertedResidual(this Net net, string x, int inputs, int outputs, int stride = 1, int expand = 2, bool norm = true)
    {
        string y = expand == 1 ? x : net.ConvUnit(x, inputs, expand * inputs, 1, norm: norm);
        y = net.ConvUnit(y, expand * inputs, expand * inputs, stride: stride, group: expand * inputs, norm: norm);
        y = net.ConvUnit(y, expand * inputs, outputs, 1, norm: norm, activation: null);
        return inputs == outputs && stride == 1 ? net.Add(x, y) : y;
    }

    /// <summary>Squeeze and excitation (Hu et al. 2018).</summary>
    public static string Gated(this Net net, string x, int channels)
    {
        string y = net.Relu(net.Conv(net.Op("GlobalAveragePool", [x]), channels, 2, 1));
        return net.Mul(x, net.Op("Sigmoid", [net.Conv(y, 2, channels, 1)]));
    }

    /// <summary>LayerNorm over the last axis, as one node or as PyTorch's exporter writes it out before operator set 17.</summary>
    public static string Norm(this Net net, string x, int size, bool decomposed = true)
    {
        if (!decomposed)
            return net.Op("LayerNormalization", [x, net.Positive(size), net.Weight([size])], new { epsilon = 1e-5 });
        string centred = net.Op("Sub", [x, net.Op("ReduceMean", [x], new { axes = new[] { -1 } })]);
        string variance = net.Op("ReduceMean", [net.Op("Pow", [centred, net.Filled(2)])], new { axes = new[] { -1 } });
        string scaled = net.Op("Div", [centred, net.Op("Sqrt", [net.Add(variance, net.Filled(1e-5))])]);
        return net.Add(net.Mul(scaled, net.Positive(size)), net.Weight([size]));
    }

    /// <summary>GELU by tanh as PyTorch's exporter writes it; ONNX Runtime has no Erf of double precision.</summary>
    public static string Gelu(this Net net, string x)
    {
        string cubic = net.Add(x, net.Mul(net.Op("Pow", [x, net.Filled(3)]), net.Filled(0.044715)));
        return net.Mul(net.Mul(x, net.Filled(0.5)), net.Add(net.Op("Tanh", [net.Mul(cubic, net.Filled(0.79788456))]), net.Filled(1)));
    }

    /// <summary>An attention of <paramref name="heads"/> heads whose shapes are computed; keys and values come from <paramref name="memory"/>.</summary>
    public static string Attention(this Net net, string x, int size, int heads, string? memory = null, string? mask = null)
    {
        string Heads(string value, params int[] perm) =>
            net.Transpose(net.Op("Reshape", [net.Linear(value, size, size), net.Shape(net.Size(value, 0), net.Size(value, 1), heads, size / heads)]), perm);
        string scores = net.Op("MatMul", [Heads(x, 0, 2, 1, 3), Heads(memory ?? x, 0, 2, 3, 1)]);
        scores = net.Op("Div", [scores, net.Filled(Math.Sqrt(size / heads))]);
        string chosen = net.Op("MatMul", [net.Op("Softmax", [mask is null ? scores : net.Add(scores, mask)], new { axis = -1 }), Heads(memory ?? x, 0, 2, 1, 3)]);
        string joined = net.Op("Reshape", [net.Transpose(chosen, 0, 2, 1, 3), net.Shape(net.Size(x, 0), net.Size(x, 1), size)]);
        return net.Linear(joined, size, size);
    }

    /// <summary>The two layers behind an attention.</summary>
    public static string Mlp(this Net net, string x, int size) => net.Linear(net.Gelu(net.Linear(x, size, 2 * size)), 2 * size, size);

    /// <summary>A transformer's layer, norms in front of the branches or behind the sums.</summary>
    public static string TransformerLayer(this Net net, string x, int size, int heads, bool preNorm = true, bool decomposed = true, string? mask = null)
    {
        string Residual(string value, Func<string, string> branch) => preNorm
            ? net.Add(value, branch(net.Norm(value, size, decomposed)))
            : net.Norm(net.Add(value, branch(value)), size, decomposed);
        return Residual(Residual(x, v => net.Attention(v, size, heads, mask: mask)), v => net.Mlp(v, size));
    }

    /// <summary>Pooling over all positions and a layer.</summary>
    public static void Classifier(this Net net, string x, int channels) =>
        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([channels, 3]), net.Weight([3])]));
}
