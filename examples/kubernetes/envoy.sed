# The addresses and files of patrol.yaml and envoy.yaml in ../envoy/envoy-tls.yaml.
s/address: 127.0.0.1, port_value: 10443/address: 0.0.0.0, port_value: 10443/
s/address: 127.0.0.1, port_value: 9191/address: patrol.patrol.svc, port_value: 9191/
s/address: 127.0.0.1, port_value: 8000/address: models.default.svc, port_value: 8000/
s|filename: certs/|filename: /etc/envoy/certs/|
