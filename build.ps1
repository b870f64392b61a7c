#!/usr/bin/env pwsh
<#
.SYNOPSIS
Builds, tests, packs or publishes OnnxMorph. Every target is one plain dotnet command, which is printed before it runs.
.EXAMPLE
./build.ps1
Builds and tests.
.EXAMPLE
./build.ps1 Publish -Runtime win-x64
Puts the command and its libraries, compiled for 64-bit Windows, into artifacts/publish.
.EXAMPLE
./build.ps1 Publish -Native
Makes one native program of the command in artifacts/native, for the processor alone; takes a C compiler.
.EXAMPLE
./build.ps1 Build -OnnxRuntime Gpu
Builds against the GPU package of ONNX Runtime.
#>
[CmdletBinding()]
param(
    # What to do, in order.
    [Parameter(Position = 0)]
    [ValidateSet('Restore', 'Build', 'Format', 'Test', 'Pack', 'Publish', 'Clean')]
    [string[]] $Target = @('Build', 'Test'),

    [ValidateSet('Debug', 'Release')]
    [string] $Configuration = 'Release',

    # Runtime identifier for Publish, such as linux-x64; this machine's where it is left out.
    [string] $Runtime,

    # Whether Publish compiles to native code instead of code for .NET's runtime.
    [switch] $Native,

    # Which package of ONNX Runtime to take.
    [ValidateSet('Cpu', 'Gpu')]
    [string] $OnnxRuntime = 'Cpu'
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

function Invoke-DotNet {
    # Only what differs from the default is passed on, so that the line can be typed by hand as it stands.
    $arguments = @($args)
    if ($OnnxRuntime -ne 'Cpu' -and $arguments[0] -ne 'format') { $arguments += "-p:OnnxRuntimeFlavor=$OnnxRuntime" }
    Write-Host "dotnet $arguments" -ForegroundColor Cyan
    & dotnet @arguments
    if ($LASTEXITCODE -ne 0) { throw "dotnet $($arguments[0]) ended with exit code $LASTEXITCODE." }
}

Push-Location $PSScriptRoot
try {
    foreach ($name in $Target) {
        switch ($name) {
            'Restore' { Invoke-DotNet restore }
            'Build' { Invoke-DotNet build -c $Configuration }
            'Format' { Invoke-DotNet format }
            'Test' { Invoke-DotNet test -c $Configuration }
            'Pack' { Invoke-DotNet pack -c $Configuration -o artifacts/packages }
            'Publish' {
                # For one platform the code is compiled beforehand (ReadyToRun), so that the command starts at once.
                if (-not $Runtime) { $Runtime = [System.Runtime.InteropServices.RuntimeInformation]::RuntimeIdentifier }
                if ($Native) { Invoke-DotNet publish src/OnnxMorph.Cli -c $Configuration -o artifacts/native -r $Runtime '-p:PublishAot=true' }
                else { Invoke-DotNet publish src/OnnxMorph.Cli -c $Configuration -o artifacts/publish -r $Runtime --self-contained false }
            }
            'Clean' { Invoke-DotNet clean -c $Configuration }
        }
    }
}
finally {
    Pop-Location
}
