"""Real web servers behind a gate, and a differential tester: what a server takes for a listed host, the gate stops.

Each server is started unchanged from its package, with two virtual hosts on one port: `www.pass.test`, which is on
no list, and `www.listed.test`, which is. A conversation (byte strings that a client sends one after the other on one
connection) is first sent straight to a server. If the server then answers as the listed host, the same conversation
is sent through the gate, in every mode, and must never bring that answer back.

  server         what a server is, and how all of them are started
  web_servers    nginx, Apache httpd, lighttpd, HAProxy, mini_httpd, Caddy, Tomcat
  app_servers    Node.js, Go, and the servers of Python
  apps           the two virtual hosts as applications of the Python servers
  conversations  what a conversation is, and the known findings ("seeds")
  fuzzer         makes more conversations, from a grammar and from earlier ones
  ways           how a client reaches a server: directly, and through the gate in each mode
  comparison     compares, and makes a finding as small as it gets

``python -m tests.e2e.servers --mode socks5 --seconds 600 --seed 1`` searches for longer than a test does.
"""
