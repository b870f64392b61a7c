namespace OnnxMorph.Cli.Tests;
