using BenchmarkDotNet.Running;
using OnnxMorph.Benchmarks;

// `synthetic-index FOLDER [COUNT]` writes an index to time the whole command with; everything else is BenchmarkDotNet's.
if (args is ["synthetic-index", var folder, .. var rest])
    SyntheticIndex.Write(folder, rest is [var count] ? int.Parse(count) : 10_000);
else
    BenchmarkSwitcher.FromAssembly(typeof(MapBenchmarks).Assembly).Run(args);
