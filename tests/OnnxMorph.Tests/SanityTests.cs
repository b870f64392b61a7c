namespace OnnxMorph.Tests;
