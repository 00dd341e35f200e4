"""What is pushed to hosts, made to fit them: releases of clawd-runtime, and the model."""
