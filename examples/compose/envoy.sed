# The addresses of compose.yaml in ../envoy/envoy.yaml.
s/address: 127.0.0.1, port_value: 10000/address: 0.0.0.0, port_value: 10000/
s/address: 127.0.0.1, port_value: 9191/address: patrol, port_value: 9191/
s/address: 127.0.0.1, port_value: 8000/address: ollama, port_value: 11434/
