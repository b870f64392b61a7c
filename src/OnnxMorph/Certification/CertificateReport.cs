namespace OnnxMorph.Certification;

/// <summary>What a check of a certificate found.</summary>
/// <param name="Passed">Whether nothing failed.</param>
/// <param name="Checked">Values whose relation holds whatever the values that they are computed from.</param>
/// <param name="Failed">Values whose relation does not hold, with the reason.</param>
/// <param name="Unproven">Values that could not be checked, with the reason.</param>
public sealed record CertificateReport(bool Passed, int Checked, IReadOnlyList<ValueFinding> Failed, IReadOnlyList<ValueFinding> Unproven);

/// <summary>What was found about one value.</summary>
/// <param name="Value">Its name in the parent.</param>
/// <param name="Reason">Why its relation was not proven.</param>
public sealed record ValueFinding(string Value, string Reason);
