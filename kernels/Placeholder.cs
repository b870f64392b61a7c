namespace OnnxMorph.Kernels;
