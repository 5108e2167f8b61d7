"""Who may send: bearer tokens, signatures, certificates, and the files that they are known by."""
