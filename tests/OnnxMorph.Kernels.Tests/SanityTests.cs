namespace OnnxMorph.Kernels.Tests;
