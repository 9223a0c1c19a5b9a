"""What `doctor` looks at: the machine, the workspace's storage, Ray and MLflow."""
