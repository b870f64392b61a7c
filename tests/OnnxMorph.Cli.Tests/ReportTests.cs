using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Google.Protobuf;
using OnnxMorph.Alignment;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Cli.Tests.Testing;
using OnnxMorph.Onnx;

namespace OnnxMorph.Cli.Tests;

/// <summary>--report: one page of well-formed XHTML that holds what --json holds, needs no network, and trusts no name.</summary>
public sealed partial class ReportTests : IDisposable
{
    private static readonly XNamespace s_html = "http://www.w3.org/1999/xhtml", s_svg = "http://www.w3.org/2000/svg";

    private static readonly string s_resnet = Workspace.Model("digits_resnet.onnx"), s_mobilenet = Workspace.Model("digits_mobilenet.onnx");

    // What a careless page would run, load or break on.
    private static readonly string[] s_hostile =
    [
        "<script>alert(1)</script>", "a\"b'c&d<e>", "]]><![CDATA[", "</title></svg><img src=x onerror=alert(1)>", "&lt;&#60;", "--><!--", "tab\tline\nreturn\rend",
        "x\" onload=\"alert(1)", "javascript:alert(1)", "\u202egnp.exe", "層\U0001f600é", "{0}", "${x}", "url(http:)",
    ];

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public async Task Similarity_draws_every_pair_and_every_score()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["deeper.onnx"], "--deepen", "blocks:stage2/block2=2", "--widen", "*=x1.5", "--no-verify");
        Command run = await Command.Succeed("similarity", _files["deeper.onnx"], s_mobilenet, "--report", _files["r.html"], "--json");
        XElement page = Page("r.html");
        JsonElement document = run.Document(), alignment = document.GetProperty("alignment");
        Assert.Equal(["sourceItems", "targetItems", "scores", "pairs"], alignment.EnumerateObject().Select(p => p.Name));
        double[][] scores = [.. alignment.GetProperty("scores").EnumerateArray().Select(row => row.EnumerateArray().Select(v => v.GetDouble()).ToArray())];
        (string[] sources, string[] targets) = (Names(alignment, "sourceItems"), Names(alignment, "targetItems"));
        Assert.Equal((targets.Length, true), (scores.Length, scores.All(row => row.Length == sources.Length)));

        // The matrix holds the scores that the alignment itself reports for its pairs, and the pairs are its pairs.
        var items = document.GetProperty("items").EnumerateArray().Where(i => i.GetProperty("source").ValueKind == JsonValueKind.String).ToList();
        var pairs = alignment.GetProperty("pairs").EnumerateArray().ToList();
        Assert.NotEmpty(pairs);
        Assert.True(pairs.Count < targets.Length);
        Assert.Equal(items.Select(i => (String(i, "target"), String(i, "source"), i.GetProperty("score").GetDouble())), pairs.Select(p =>
            (targets[p.GetProperty("targetIndex").GetInt32()], sources[p.GetProperty("sourceIndex").GetInt32()], scores[p.GetProperty("targetIndex").GetInt32()][p.GetProperty("sourceIndex").GetInt32()])));

        XElement figure = Svg(page, "alignment");
        Assert.Equal(
            pairs.Select(p => (p.GetProperty("sourceIndex").GetInt32(), p.GetProperty("targetIndex").GetInt32())),
            Classed(figure, "ribbon").Select(r => ((int)r.Attribute("data-source")!, (int)r.Attribute("data-target")!)));
        foreach ((string side, string[] names, string index) in new[] { ("source", sources, "sourceIndex"), ("target", targets, "targetIndex") })
        {
            List<XElement> drawn = [.. Classed(figure, "item").Where(i => (string)i.Attribute("data-side")! == side)];
            Assert.Equal(names, drawn.Select(d => d.Element(s_svg + "title")!.Value.Split(": ")[0]));
            var paired = pairs.Select(p => p.GetProperty(index).GetInt32()).ToHashSet();
            Assert.All(drawn.Index(), d => Assert.Equal(!paired.Contains(d.Index), Has(d.Item, "alone")));
        }

        Assert.Equal(pairs.Count, Classed(Svg(page, "matrix"), "chosen").Count());
        int[] layers = [.. alignment.GetProperty("targetItems").EnumerateArray().Select(i => i.GetProperty("layers").GetArrayLength())];
        AssertMatrix(Svg(page, "matrix"), scores, layers);
    }

    // Cells that are alike are one area: spread over the grid, they must give every score over the number of the target's layers.
    private static void AssertMatrix(XElement figure, double[][] scores, int[] layers)
    {
        XElement ground = Classed(figure, "ground").Single();
        (double left, double top, double size) = (Number(ground, "x"), Number(ground, "y"), Number(ground, "width") / scores[0].Length);
        double[,] drawn = new double[scores.Length, scores[0].Length];
        foreach (XElement cell in Classed(figure, "cell"))
        {
            int row = (int)Math.Round((Number(cell, "y") - top) / size), column = (int)Math.Round((Number(cell, "x") - left) / size);
            for (int i = 0; i < (int)Math.Round(Number(cell, "height") / size); i++)
                for (int j = 0; j < (int)Math.Round(Number(cell, "width") / size); j++)
                {
                    Assert.Equal(0, drawn[row + i, column + j]);
                    drawn[row + i, column + j] = Number(cell, "fill-opacity");
                }
        }

        for (int i = 0; i < scores.Length; i++)
            for (int j = 0; j < scores[i].Length; j++)
                Assert.Equal(scores[i][j] / layers[i], drawn[i, j], 0.00051);
    }

    [Fact]
    public async Task Transfer_shows_each_tensor_with_its_origin()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["larger.onnx"], "--widen", "*=+5", "--deepen", "blocks:stage2/block2=2", "--no-verify");
        Command run = await Command.Succeed(
            "transfer", s_resnet, _files["larger.onnx"], "-o", _files["filled.onnx"], "--calibrate", Workspace.Samples, "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        XElement page = Page("r.html");
        var parts = document.GetProperty("parts").EnumerateArray().ToList();
        var pairs = document.GetProperty("alignment").GetProperty("pairs").EnumerateArray().ToList();
        (string, string, int)[] Pairs(List<JsonElement> from) => [.. from.Select(p => (String(p, "target"), String(p, "source"), p.GetProperty("copy").GetInt32())).OrderBy(p => p.Item1, StringComparer.Ordinal)];
        Assert.Equal(Pairs(parts), Pairs(pairs));
        Assert.Equal(parts.Count, Classed(Svg(page, "alignment"), "ribbon").Count());
        Assert.Equal(parts.Count(p => p.GetProperty("copy").GetInt32() > 0), Classed(Svg(page, "alignment"), "again").Count());

        var tensors = document.GetProperty("tensors").EnumerateArray()
            .Select(t => (String(t, "name"), string.Join('×', t.GetProperty("shape").EnumerateArray()), String(t, "origin"), String(t, "source"), String(t, "note"))).ToList();
        Assert.Contains(tensors, t => t.Item3 == "exact");
        Assert.Contains(tensors, t => t.Item3 == "mapped");
        var rows = page.Descendants(s_html + "tr").Where(r => r.Attribute("data-origin") is not null).ToList();
        Assert.Equal(tensors.Order(), rows.Select(r => r.Elements().Select(c => c.Value).ToList()).Select(c => (c[0], c[1], c[3], c[4], c[5])).Order());
        Assert.All(rows, r => Assert.True(Has(Classed(r, "tag").Single(), (string)r.Attribute("data-origin")!)));
        // Each below the part that reads it: none is left over.
        Assert.DoesNotContain(Classed(page, "group"), g => g.Value.StartsWith("elsewhere", StringComparison.Ordinal));

        Assert.Equal(document.GetProperty("stages").GetArrayLength(), TableRows(page, "Activations").Count());
        AssertContent(document, page);
    }

    /// <summary>Networks of different families: blocks, layers between them, and parts that get nothing.</summary>
    [Fact]
    public async Task Transfer_along_an_alignment_draws_the_parts_that_were_filled()
    {
        Command run = await Command.Succeed("transfer", s_resnet, s_mobilenet, "-o", _files["filled.onnx"], "--method", "dp", "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        XElement page = Page("r.html");
        var parts = document.GetProperty("parts").EnumerateArray().ToList();
        var filled = parts.Where(p => String(p, "source").Length > 0).ToList();
        Assert.InRange(filled.Count, 1, parts.Count - 1);
        JsonElement alignment = document.GetProperty("alignment");
        Assert.Equal(filled.Select(p => (String(p, "target"), String(p, "source"))), alignment.GetProperty("pairs").EnumerateArray().Select(p => (String(p, "target"), String(p, "source"))));
        Assert.Equal(parts.Select(p => String(p, "target")), Names(alignment, "targetItems"));
        Assert.Equal(filled.Count, Classed(Svg(page, "alignment"), "ribbon").Count());
        Assert.Equal(parts.Count - filled.Count, Classed(Svg(page, "alignment"), "item").Count(i => Has(i, "alone") && (string)i.Attribute("data-side")! == "target"));
        Assert.Contains($"{filled.Count} of {parts.Count}", Classed(page, "figures").Single().Value);
        AssertContent(document, page);
        Assert.DoesNotContain(Classed(page, "group"), g => g.Value.StartsWith("elsewhere", StringComparison.Ordinal));
    }

    /// <summary>A target that contains the source: the blocks between have no source, and the page is that of an exact result.</summary>
    [Fact]
    public async Task Transfer_that_preserves_draws_what_the_source_fills()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["larger.onnx"], "--widen", "*=+5", "--deepen", "blocks:stage2/block2=2", "--no-verify");
        Command run = await Command.Succeed("transfer", s_resnet, _files["larger.onnx"], "-o", _files["filled.onnx"], "--method", "preserve", "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        XElement page = Page("r.html");
        Assert.True(document.GetProperty("verification").GetProperty("passed").GetBoolean());
        var parts = document.GetProperty("parts").EnumerateArray().Select(p => (Target: String(p, "target"), Source: String(p, "source"))).ToList();
        // Two of the stage's four blocks are new; the others, and all around them, are the source's in its order.
        Assert.Equal(Names(document.GetProperty("alignment"), "targetItems"), parts.Select(p => p.Target));
        Assert.Equal(Names(document.GetProperty("alignment"), "sourceItems"), parts.Where(p => p.Source.Length > 0).Select(p => p.Source));
        Assert.Equal(2, parts.Count(p => p.Source.Length == 0 && p.Target.StartsWith("stage2/", StringComparison.Ordinal)));
        Assert.Equal(parts.Count - 2, Classed(Svg(page, "alignment"), "ribbon").Count());
        Assert.Contains("computes what the source does", Classed(page, "figures").Single().Value);
        Assert.Contains("--method preserve", Classed(page, "kind").Single().Value);
        AssertContent(document, page);
    }

    /// <summary>Where the source does not fit in, the page names what stands in the way.</summary>
    [Fact]
    public async Task Transfer_that_cannot_preserve_says_why()
    {
        Command run = await Command.Succeed("transfer", s_resnet, s_mobilenet, "-o", _files["filled.onnx"], "--method", "preserve", "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        Assert.Contains("The target does not contain all of the source", String(document.GetProperty("notes"), 0));
        // The stem's convolution and norm are the same; the activation behind them is another.
        Assert.Equal("bit-exact", String(document.GetProperty("carried"), "exactness"));
        List<JsonElement> parts = [.. document.GetProperty("parts").EnumerateArray()];
        Assert.Contains("does something else than the source's Relu", String(parts[0], "reason"));
        Assert.Equal(
            parts.Select(p => $"{String(p, "target")}|{String(p, "state").Replace('-', ' ')}|{(p.TryGetProperty("reason", out JsonElement reason) ? reason.GetString() : "")}"),
            Section(Page("r.html"), "What is exact").Descendants(s_html + "tr").Skip(1).Select(row => row.Elements().Select(e => e.Value).ToArray()).Select(cells => $"{cells[0]}|{cells[2]}|{cells[3]}"));
        Assert.Contains(document.GetProperty("tensors").EnumerateArray(), t => String(t, "origin") == "fresh");
        AssertContent(document, Page("r.html"));
    }

    // What the page of a transfer states is in the document, and adds up.
    private static void AssertContent(JsonElement document, XElement page)
    {
        Assert.Equal($"{Path.GetFileName(String(document, "source"))} → {Path.GetFileName(String(document, "target"))}", page.Descendants(s_html + "h1").Single().Value);
        Assert.Contains($"--method {String(document, "method")}", page.Descendants(s_html + "title").First().Value);
        var tensors = document.GetProperty("tensors").EnumerateArray()
            .Select(t => (Name: String(t, "name"), Origin: String(t, "origin"), Note: String(t, "note"), Count: t.GetProperty("shape").EnumerateArray().Aggregate(1L, (n, size) => n * size.GetInt64()))).ToList();
        XElement weights = Section(page, "Where the weights come from");
        List<XElement> key = [.. Classed(weights, "key").Single().Elements()];
        foreach ((string origin, XElement entry) in new[] { "exact", "mapped", "fresh" }.Zip(key))
        {
            var same = tensors.Where(t => t.Origin == origin).ToList();
            Assert.StartsWith($"{origin}: ", entry.Value);
            Assert.Contains($"{Text.Some(same.Sum(t => t.Count), "element")}, {Text.Some(same.Count, "tensor")}", entry.Value);
        }

        // Every reason stands there once, with the origin that it explains.
        Assert.Equal(
            tensors.Where(t => t.Note.Length > 0).Select(t => (t.Origin, t.Note)).Distinct().Order(),
            Classed(weights, "plain").Single().Elements().Select(li => (Classed(li, "tag").Single().Value, li.Value[(li.Value.IndexOf(' ') + 1)..li.Value.LastIndexOf(": ", StringComparison.Ordinal)])).Order());
        string[] notes = [.. document.GetProperty("notes").EnumerateArray().Select(n => n.GetString()!)];
        if (notes.Length > 0)
            Assert.Equal(notes, Section(page, "Notes").Descendants(s_html + "li").Select(li => li.Value));
        // Parts with their sources and origins, as text.
        string Total(string part, string origin) => Text.Full(document.GetProperty("alignment").GetProperty("targetItems").EnumerateArray().Single(i => String(i, "name") == part)
            .GetProperty("tensors").EnumerateArray().Select(n => n.GetString()).Distinct().SelectMany(n => tensors.Where(t => t.Name == n && t.Origin == origin)).Sum(t => t.Count));
        foreach (XElement group in Classed(page, "group"))
        {
            string[] text = [.. group.Elements().Single().Nodes().Select(n => n is XElement e ? e.Value : n.ToString())];
            JsonElement part = document.GetProperty("parts").EnumerateArray().Single(p => String(p, "target") == text[0]);
            Assert.Equal(String(part, "source").Length == 0 ? [] : [$"from {String(part, "source")}{(part.GetProperty("copy").GetInt32() > 0 ? ", again" : "")}"], text[1..^1]);
            Assert.Equal(string.Join(", ", new[] { "exact", "mapped", "fresh" }.Select(o => (o, Total(text[0], o))).Where(t => t.Item2 != "0").Select(t => $"{t.Item2} {t.o}")), text[^1]);
        }

        JsonElement verification = document.GetProperty("verification");
        Assert.Contains(String(verification, "exactness"), Classed(page, "figures").Single().Value);
        Assert.Equal(verification.GetProperty("outputs").EnumerateArray().Select(o => String(o, "name")), TableRows(page, "Outputs").Select(r => r.Elements().First().Value));
        Assert.Contains(String(verification, "reason"), Section(page, "Outputs").Value);
    }

    [Fact]
    public async Task Morph_and_verify_show_steps_refusals_tensors_and_the_certificate()
    {
        Command run = await Command.Succeed(
            "morph", s_resnet, "-o", _files["child.onnx"], "--widen", "*=x1.5", "--deepen", "*", "--certificate", _files["c.json"], "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        XElement page = Page("r.html");
        string steps = Section(page, "Steps").Value;
        foreach (JsonElement step in document.GetProperty("steps").EnumerateArray())
        {
            Assert.Contains(String(step, "step"), steps);
            foreach (JsonElement change in step.GetProperty("changes").EnumerateArray())
                Assert.Contains(String(change, "where"), steps);
            foreach (JsonElement refusal in step.GetProperty("refused").EnumerateArray())
                Assert.Contains(String(refusal, "reason"), steps);
        }

        Assert.Equal(
            document.GetProperty("tensors").EnumerateArray().Select(t => (String(t, "name"), String(t, "origin"))),
            page.Descendants(s_html + "tr").Where(r => r.Attribute("data-origin") is not null).Select(r => (r.Elements().First().Value, (string)r.Attribute("data-origin")!)));
        Assert.Contains("44,738 → ", Classed(page, "figures").Single().Value);

        Command verified = await Command.Succeed("verify", s_resnet, _files["child.onnx"], "--certificate", _files["c.json"], "--report", _files["v.html"], "--json");
        XElement second = Page("v.html");
        Assert.Contains("The certificate is proven.", Section(second, "Certificate").Value);
        Assert.Equal(verified.Document().GetProperty("inputs").GetArrayLength(), TableRows(second, "Inputs").Count());
        // A comparison that fails has a report too, which says where.
        Command failed = await Command.Run("verify", s_resnet, s_mobilenet, "--report", _files["f.html"], "--json");
        Assert.Equal(1, failed.Code);
        string text = Page("f.html").Value;
        Assert.Contains(String(failed.Document(), "reason"), text);
        Assert.Contains("not verified", text);
    }

    [Fact]
    public async Task Inspect_shows_the_tree()
    {
        Command run = await Command.Succeed("inspect", s_resnet, "--report", _files["r.html"], "--json");
        JsonElement document = run.Document();
        XElement page = Page("r.html");
        string[] headings = [.. Section(page, "Structure").Descendants(s_html + "th").Where(h => h.Attribute("colspan") is not null).Select(h => h.FirstNode!.ToString())];
        Assert.Equal(["stem", "stage1", "stage1/block1", "stage1/block2", "stage2", "stage2/block1", "stage2/block2"], headings[..7]);
        Assert.Equal("head", headings[^1]);
        var rows = TableRows(page, "Structure").Where(r => r.Attribute("data-level") is null).Select(r => r.Elements().First().Value).ToList();
        Assert.All(document.GetProperty("layers").EnumerateArray(), layer => Assert.Contains(String(layer, "name"), rows));
        Assert.Equal(document.GetProperty("spaces").EnumerateArray().Select(s => String(s, "name")), TableRows(page, "Channel spaces").Select(r => r.Elements().First().Value));
    }

    [Fact]
    public async Task Names_are_text_whatever_they_hold()
    {
        string model = Hostile(s_resnet, "hostile.onnx");
        await Command.Succeed("inspect", model, "--report", _files["inspect.html"]);
        await Command.Succeed("similarity", model, s_mobilenet, "--report", _files["similarity.html"]);
        await Command.Succeed("morph", model, "-o", _files["child.onnx"], "--widen", "*=x1.5", "--report", _files["morph.html"]);
        await Command.Succeed("transfer", model, _files["child.onnx"], "-o", _files["filled.onnx"], "--report", _files["transfer.html"]);
        await Command.Succeed("verify", model, _files["child.onnx"], "--report", _files["verify.html"]);
        foreach (string name in (string[])["inspect", "similarity", "morph", "transfer", "verify"])
        {
            XElement page = Page($"{name}.html");
            Assert.Empty(page.Descendants(s_html + "img"));
            Assert.All(page.DescendantsAndSelf().Attributes(), a => Assert.False(a.Name.LocalName.StartsWith("on", StringComparison.OrdinalIgnoreCase) || a.Name.LocalName is "src" or "href"));
        }

        // The names are all there, as they are.
        string layers = Page("inspect.html").Value, tensors = Page("morph.html").Value, carried = Page("transfer.html").Value;
        Assert.All(s_hostile, name => Assert.Contains(name, layers));
        Assert.All(s_hostile, name => Assert.Contains("weight " + name, tensors));
        Assert.All(s_hostile, name => Assert.Contains("weight " + name, carried));
        Assert.Equal("logits" + s_hostile[0], TableRows(Page("verify.html"), "Outputs").Single().Elements().First().Value);
    }

    // The model with names that are markup, for its nodes, weights and outputs.
    private string Hostile(string path, string name)
    {
        ModelProto model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(path));
        var names = new Dictionary<string, string>();
        foreach ((int i, TensorProto tensor) in model.Graph.Initializer.Index())
            names[tensor.Name] = $"{i} weight {s_hostile[i % s_hostile.Length]}";
        names["logits"] = "logits" + s_hostile[0];
        foreach (TensorProto tensor in model.Graph.Initializer)
            tensor.Name = names[tensor.Name];
        foreach (ValueInfoProto value in model.Graph.Output.Concat(model.Graph.ValueInfo).Concat(model.Graph.Input))
            value.Name = names.GetValueOrDefault(value.Name, value.Name);
        foreach ((int n, NodeProto node) in model.Graph.Node.Where(n => n.OpType is "Conv" or "BatchNormalization" or "Gemm").Index())
            node.Name = $"{n} {s_hostile[n % s_hostile.Length]}";
        foreach (NodeProto node in model.Graph.Node)
            foreach (var list in new[] { node.Input, node.Output })
                for (int i = 0; i < list.Count; i++)
                    list[i] = names.GetValueOrDefault(list[i], list[i]);
        File.WriteAllBytes(_files[name], model.ToByteArray());
        return _files[name];
    }

    /// <summary>A model without a single layer, and long ones, whose matrix is too fine for names.</summary>
    [Fact]
    public async Task Networks_of_any_length_are_drawn()
    {
        ModelProto model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(s_resnet));
        var empty = new GraphProto { Name = "empty" };
        empty.Input.Add(model.Graph.Input[0]);
        empty.Node.Add(new NodeProto { OpType = "Relu", Input = { model.Graph.Input[0].Name }, Output = { "y" } });
        empty.Output.Add(new ValueInfoProto { Name = "y" });
        model.Graph = empty;
        File.WriteAllBytes(_files["empty.onnx"], model.ToByteArray());
        foreach ((string source, string target) in new[] { (_files["empty.onnx"], s_resnet), (s_resnet, _files["empty.onnx"]), (_files["empty.onnx"], _files["empty.onnx"]) })
        {
            await Command.Succeed("similarity", source, target, "--report", _files["r.html"], "--force");
            Assert.Empty(Classed(Page("r.html"), "ribbon"));
        }

        await Command.Succeed("inspect", _files["empty.onnx"], "--report", _files["i.html"]);
        Page("i.html");
        await Command.Succeed("morph", s_resnet, "-o", _files["deep.onnx"], "--deepen", "blocks:stage1/*=40", "--no-verify");
        foreach ((string source, string target) in new[] { (s_resnet, _files["deep.onnx"]), (_files["deep.onnx"], s_mobilenet) })
        {
            Command run = await Command.Succeed("similarity", source, target, "--report", _files["r.html"], "--force", "--json");
            JsonElement alignment = run.Document().GetProperty("alignment");
            XElement page = Page("r.html");
            Assert.Equal(alignment.GetProperty("pairs").GetArrayLength(), Classed(page, "ribbon").Count());
            double[][] scores = [.. alignment.GetProperty("scores").EnumerateArray().Select(row => row.EnumerateArray().Select(v => v.GetDouble()).ToArray())];
            AssertMatrix(Svg(page, "matrix"), scores, [.. alignment.GetProperty("targetItems").EnumerateArray().Select(i => i.GetProperty("layers").GetArrayLength())]);
            // No block overlaps the next, or hangs out of the drawing.
            XElement figure = Svg(page, "alignment");
            double height = double.Parse(((string)figure.Attribute("viewBox")!).Split(' ')[3], CultureInfo.InvariantCulture);
            foreach (var column in Classed(figure, "item").GroupBy(i => (string)i.Attribute("data-side")!))
            {
                double end = 0;
                foreach (XElement box in column.SelectMany(i => Classed(i, "box")))
                {
                    Assert.True(Number(box, "y") > end);
                    end = Number(box, "y") + Number(box, "height");
                }

                Assert.True(end < height);
            }
        }
    }

    /// <summary>Hundreds of parts that are all different: areas come in shades, and the page stays small.</summary>
    [Fact]
    public void A_matrix_of_any_size_makes_a_small_page()
    {
        const int Rows = 450, Columns = 500;
        var random = new Random(1);
        ItemReport[] Items(int count) => [.. Enumerable.Range(0, count).Select(i => new ItemReport($"/features/stage{i / 50}/layer{i}/Conv", $"stage{i / 50}", [new AlignedLayer($"{i}", AlignedKind.Norm, [4])], []))];
        double[][] scores = [.. Enumerable.Range(0, Rows).Select(_ => (double[])[.. Enumerable.Range(0, Columns).Select(_ => random.NextDouble())])];
        (ItemReport[] sources, ItemReport[] targets) = (Items(Columns), Items(Rows));
        var alignment = new AlignmentReport(sources, targets, scores, [.. targets.Select((t, i) => new ItemPair(i, i, t.Name, sources[i].Name, scores[i][i], 0))]);
        string drawn = MatrixFigure.Draw(alignment).ToString();
        Assert.InRange(drawn.Length + AlignmentFigure.Draw(alignment, "a", "b").ToString().Length, 1, 4_000_000);
        List<XElement> shades = [.. Classed(XElement.Parse(drawn), "cells")];
        Assert.InRange(shades.Count, 20, 40);
        // Laid out over the grid, the strokes give every score to a shade.
        XElement ground = Classed(XElement.Parse(drawn), "ground").Single();
        (double left, double top, double size) = (Number(ground, "x"), Number(ground, "y"), Number(ground, "width") / Columns);
        double[,] fits = new double[Rows, Columns];
        foreach (XElement shade in shades)
        {
            Assert.Equal(size, Number(shade, "stroke-width"), 0.01);
            foreach (Match line in Stroke().Matches(shade.Attribute("d")!.Value))
            {
                double[] numbers = [.. line.Groups.Values.Skip(1).Select(g => double.Parse(g.Value, CultureInfo.InvariantCulture))];
                (int row, int column) = ((int)Math.Floor((numbers[1] - top) / size), (int)Math.Round((numbers[0] - left) / size));
                for (int j = 0; j < (int)Math.Round(numbers[2] / size); j++)
                {
                    Assert.Equal(0, fits[row, column + j]);
                    fits[row, column + j] = Number(shade, "stroke-opacity");
                }
            }
        }

        for (int i = 0; i < Rows; i++)
            for (int j = 0; j < Columns; j++)
                Assert.InRange(fits[i, j] - scores[i][j], 0, 0.0251);
    }

    [GeneratedRegex("""M([\d.]+) ([\d.]+)h([\d.]+)""")]
    private static partial Regex Stroke();

    [Fact]
    public void What_stands_between_markup_is_encoded()
    {
        Assert.Equal("<b title=\"&quot;&#39;&lt;&gt;&amp;\">1.5 &#10;x</b>", Html.Markup($"<b title=\"{"\"'<>&"}\">{1.5} {"\nx"}</b>").ToString());
        Assert.Equal("<i><b>&lt;</b></i>", Html.Markup($"<i>{Html.Markup($"<b>{"<"}</b>")}</i>").ToString());
        Assert.Equal("a\ufffdb\ufffd\ufffdc", ((Html)"a\u0001b\ud800\uffffc").ToString());
        Assert.Equal("0.33 1,000 <p>&gt;</p><p>&amp;</p>", Html.Markup($"{1 / 3.0} {1000:N0} {new[] { ">", "&" }.Select(t => Html.Markup($"<p>{t}</p>"))}").ToString());
        foreach (string name in s_hostile)
            Assert.Equal(name, XElement.Parse(Html.Markup($"<p title=\"{name}\">{name}</p>").ToString()).Attribute("title")!.Value);
    }

    [Theory]
    [InlineData(0, "0")]
    [InlineData(9999, "9,999")]
    [InlineData(12345, "12.3\u00a0k")]
    [InlineData(234567, "235\u00a0k")]
    [InlineData(11_689_512, "11.7\u00a0M")]
    [InlineData(8_000_000_000, "8.0\u00a0G")]
    public void Counts_are_short(long count, string text) => Assert.Equal(text, Text.Count(count));

    [Fact]
    public async Task The_same_bytes_wherever_and_whenever()
    {
        async Task<byte[]> Run(string folder)
        {
            Directory.CreateDirectory(_files[folder]);
            string In(string name) => Path.Combine(_files[folder], name);
            await Command.Succeed("morph", s_resnet, "-o", In("child.onnx"), "--widen", "*=+3", "--report", In("m.html"));
            await Command.Succeed("transfer", s_resnet, In("child.onnx"), "-o", In("filled.onnx"), "--report", In("t.html"));
            byte[] pages = [.. File.ReadAllBytes(In("m.html")), .. File.ReadAllBytes(In("t.html"))];
            Assert.Equal(["child.onnx", "filled.onnx", "m.html", "t.html"], Directory.EnumerateFileSystemEntries(_files[folder]).Select(Path.GetFileName).Order());
            return pages;
        }

        Assert.Equal(await Run("one"), await Run("two"));
    }

    [Theory]
    [InlineData(5, "create it first", "missing/r.html")]
    [InlineData(2, "is a folder", "folder.html")]
    [InlineData(2, "--force", "there.html")]
    [InlineData(2, "does not end in .html", "r.onnx")]
    [InlineData(2, "a name of its own", "child.html")]
    public async Task A_report_that_cannot_be_written_stops_the_run_before_it_begins(int code, string says, string report)
    {
        Directory.CreateDirectory(_files["folder.html"]);
        File.WriteAllText(_files["there.html"], "there");
        var before = _files.Snapshot();
        // The models do not exist: whoever looks at them first says something else.
        string model = _files["none.onnx"], child = _files["child.html"];
        foreach (string[] args in new string[][]
        {
            ["inspect", model], ["similarity", model, model], ["verify", model, child], ["transfer", model, model, "-o", child], ["morph", model, "-o", child],
        })
        {
            if (report == "child.html" && !args.Contains(child))
                continue;
            Command run = await Command.Run([.. args, "--report", _files[report], "--json"]);
            Assert.Equal(code, run.Code);
            Assert.Contains(says, run.Error);
            Assert.Equal(code, run.Document().GetProperty("exitCode").GetInt32());
            Assert.Equal(before, _files.Snapshot());
        }
    }

    [Fact]
    public async Task A_report_replaces_another_only_when_told_to_and_only_when_it_is_whole()
    {
        File.WriteAllText(_files["r.html"], "there");
        Assert.Equal(5, (await Command.Run("inspect", _files["none.onnx"], "--report", _files["r.html"], "--force")).Code);
        Assert.Equal("there", File.ReadAllText(_files["r.html"]));
        using (StringWriter output = new(), error = new())
            Assert.Equal(130, await CommandLine.RunAsync(["morph", s_resnet, "-o", _files["child.onnx"], "--report", _files["r.html"], "--force"], output, error, new CancellationToken(canceled: true)));
        Assert.Equal(["r.html"], _files.Snapshot().Keys);
        Assert.Equal("there", File.ReadAllText(_files["r.html"]));
        Command run = await Command.Succeed("inspect", s_resnet, "--report", _files["r.html"], "--force");
        Assert.Contains($"wrote {_files["r.html"]}", run.Output);
        Assert.Equal(["r.html"], _files.Snapshot().Keys);
        Assert.NotEmpty(Page("r.html").Descendants(s_html + "table"));
    }

    [Fact]
    public async Task A_folder_that_takes_no_files_is_exit_code_5()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "/proc is Linux's");
        Command run = await Command.Run("inspect", s_resnet, "--report", "/proc/r.html");
        Assert.Equal(5, run.Code);
        Assert.Contains("'/proc/r.html' cannot be written", run.Error);
    }

    // Every page is checked for what holds for all: well-formed, one script and style of the program's own, and nothing from elsewhere.
    private XElement Page(string name)
    {
        byte[] bytes = File.ReadAllBytes(_files[name]);
        string text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes);
        Assert.DoesNotContain('\r', text);
        XElement root = XDocument.Parse(text, LoadOptions.PreserveWhitespace).Root!;
        Assert.Equal(s_html + "html", root.Name);
        string script = root.Descendants(s_html + "script").Single().Value, style = root.Descendants(s_html + "style").Single().Value;
        Assert.DoesNotMatch("""@import|url\((?!#)""", style);
        Assert.Contains($"'sha256-{Convert.ToBase64String(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(script)))}'", text);
        Assert.All(Address().Matches(text), address => Assert.Contains(address.Value, new[] { s_html.NamespaceName, s_svg.NamespaceName }));
        // HTML has no empty elements of its own making, as XML does: a browser would take what follows for content.
        Assert.DoesNotMatch("<(td|th|span|div|p|i|b|script|ul|code|small|style|tbody|title|dd)( [^>]*)?/>", text);
        // What is drawn has a text for those who do not see it.
        Assert.All(root.Descendants(s_svg + "svg"), svg => Assert.NotNull(svg.Attribute("aria-label")));
        string[] ids = [.. root.Descendants().Attributes("id").Select(a => a.Value)];
        Assert.Equal(ids.Distinct(), ids);
        Assert.All(root.Descendants(s_svg + "svg").Descendants().Attributes().Where(a => a.Name.LocalName is "x" or "y" or "width" or "height"), a => Assert.True(double.IsFinite(double.Parse(a.Value, CultureInfo.InvariantCulture))));
        return root;
    }

    [GeneratedRegex("""https?://[^"'\s<]*""")]
    private static partial Regex Address();

    private static bool Has(XElement element, string name) => ((string?)element.Attribute("class") ?? "").Split(' ').Contains(name);

    private static IEnumerable<XElement> Classed(XElement root, string name) => root.DescendantsAndSelf().Where(e => Has(e, name));

    private static XElement Svg(XElement page, string name) => Assert.Single(page.Descendants(s_svg + "svg"), svg => Has(svg, name));

    private static XElement Section(XElement page, string title) => Assert.Single(page.Descendants(s_html + "section"), s => s.Element(s_html + "h2")!.Value == title);

    private static IEnumerable<XElement> TableRows(XElement page, string title) => Section(page, title).Descendants(s_html + "tbody").Single().Elements(s_html + "tr");

    private static string[] Names(JsonElement alignment, string side) => [.. alignment.GetProperty(side).EnumerateArray().Select(i => String(i, "name"))];

    private static string String(JsonElement list, int index) => list[index].GetString()!;

    // Empty for null.
    private static string String(JsonElement element, string name) => element.GetProperty(name).GetString() ?? "";

    private static double Number(XElement element, string name) => double.Parse(element.Attribute(name)!.Value, CultureInfo.InvariantCulture);
}
