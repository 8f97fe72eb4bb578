"""WHO: SPIFFE ids, the CA, X.509- and JWT-SVIDs, the trust bundle, attestation.

Public functions (each module's docstring has its rules)
- `ca.make_ca`, `ca.load_ca`                                  a trust domain's self-signed CA
- `x509svid.issue_x509`, `jwtsvid.issue_jwt`                  credentials
- `bundle.TrustBundle`, `bundle.write_jwks`, `bundle.parse_jwks`
- `verify.verify_x509`, `verify_jwt`, `who_is_calling`, `forwarded`, `registered`, `peer_uid`, `session`, `declared`
                                                              the only places that make a `VerifiedPrincipal`
- `catalog.attestors`, `catalog.attest`, `catalog.match`      facts -> selectors -> registration
"""
