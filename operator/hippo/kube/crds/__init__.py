"""The CRDs and their admission policy, generated from the models."""
