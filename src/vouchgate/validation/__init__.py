"""Is it sound: poisoning, backdoors and robustness of data and models. No probe is built yet; docs/limits.md says what that leaves open."""
