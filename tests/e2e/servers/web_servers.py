"""Servers that need no application: each answers for its virtual hosts as its configuration says."""

from __future__ import annotations

from tests.e2e.servers.server import Server

_NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log /dev/null crit;
events { worker_connections 512; }
http {
  access_log off;
  server { listen {port}OPTIONS default_server; server_name other.test; return 200 "served as another\\n"; }
  server { listen {port}OPTIONS; server_name www.pass.test; return 200 "served as pass\\n"; }
  server { listen {port}OPTIONS; server_name www.listed.test; return 200 "served as listed\\n"; }
}
"""
_APACHE = """\
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ServerName other.test
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
StartServers 1
ServerLimit 2
ThreadsPerChild 64
MaxRequestWorkers 128
Listen {port}
Protocols h2c http/1.1
ErrorLog /dev/null
<VirtualHost *:{port}>
  ServerName other.test
  DocumentRoot {sites}/other
</VirtualHost>
<VirtualHost *:{port}>
  ServerName www.pass.test
  DocumentRoot {sites}/www.pass.test
</VirtualHost>
<VirtualHost *:{port}>
  ServerName www.listed.test
  DocumentRoot {sites}/www.listed.test
</VirtualHost>
"""
_LIGHTTPD = """\
server.port = {port}
server.document-root = "{sites}/other"
server.errorlog = "/dev/null"
server.pid-file = "{folder}/pid"
index-file.names = ( "index.html" )
$HTTP["host"] =~ "^www\\.pass\\.test(:|$)" { server.document-root = "{sites}/www.pass.test" }
$HTTP["host"] =~ "^www\\.listed\\.test(:|$)" { server.document-root = "{sites}/www.listed.test" }
"""
_HAPROXY = """\
global
  maxconn 512
  log /dev/null local0
defaults
  mode http
  timeout client 60s
  timeout http-request 60s
  timeout http-keep-alive 60s
frontend web
  bind :{port}
  acl pass hdr(host),lower,field(1,:) -m str www.pass.test
  acl listed hdr(host),lower,field(1,:) -m str www.listed.test
  http-request return status 200 content-type text/plain string "served as pass" if pass
  http-request return status 200 content-type text/plain string "served as listed" if listed
  http-request return status 200 content-type text/plain string "served as another"
"""
_CADDY = """\
{
  admin off
  auto_https off
  log default {
    output discard
  }
  servers {
    protocols h1 h2c
  }
}
http://:{port} {
  respond "served as another"
}
http://www.pass.test:{port} {
  respond "served as pass"
}
http://www.listed.test:{port} {
  respond "served as listed"
}
"""
_TOMCAT = """\
<Server port="-1">
  <Service name="Catalina">
    <Connector port="{port}" protocol="HTTP/1.1" maxThreads="64">
      <UpgradeProtocol className="org.apache.coyote.http2.Http2Protocol"/>
    </Connector>
    <Engine name="Catalina" defaultHost="other.test">
      <Host name="other.test" appBase="none"><Context path="" docBase="{sites}/other"/></Host>
      <Host name="www.pass.test" appBase="none"><Context path="" docBase="{sites}/www.pass.test"/></Host>
      <Host name="www.listed.test" appBase="none"><Context path="" docBase="{sites}/www.listed.test"/></Host>
    </Engine>
  </Service>
</Server>
"""
_TOMCAT_SERVLETS = """\
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="5.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
  <welcome-file-list><welcome-file>index.html</welcome-file></welcome-file-list>
</web-app>
"""

_TOMCAT_HOME = "/usr/share/tomcat10"

WEB_SERVERS = [
    Server("nginx", 1, ("nginx", "-c", "{folder}/nginx.conf"), {"nginx.conf": _NGINX.replace("OPTIONS", "")}),
    Server(
        *("nginx h2c", 2, ("nginx", "-c", "{folder}/nginx.conf")),
        {"nginx.conf": _NGINX.replace("OPTIONS", " http2")},
        speaks="h2",
    ),
    Server(
        *("Apache", 3, ("apache2", "-D", "FOREGROUND", "-f", "{folder}/apache.conf")),
        {"apache.conf": _APACHE},
    ),
    Server("lighttpd", 4, ("lighttpd", "-D", "-f", "{folder}/lighttpd.conf"), {"lighttpd.conf": _LIGHTTPD}),
    Server("HAProxy", 5, ("haproxy", "-db", "-q", "-f", "{folder}/haproxy.cfg"), {"haproxy.cfg": _HAPROXY}),
    Server(
        "mini_httpd",
        6,
        ("mini_httpd", "-D", "-v", "-u", "root", "-p", "{port}", "-d", "{folder}", "-l", "/dev/null"),
        {  # it looks for a folder with the name that is in Host, port and all
            f"{host}{port}/index.html": f"served as {marker}\n"
            for host, marker in (("www.pass.test", "pass"), ("www.listed.test", "listed"))
            for port in ("", ":{port}", ":{other_port}")
        },
    ),
    Server(
        *("Caddy", 7, ("caddy", "run", "--config", "{folder}/Caddyfile")),
        {"Caddyfile": _CADDY},
        {"XDG_DATA_HOME": "{folder}", "XDG_CONFIG_HOME": "{folder}"},
    ),
    Server(
        "Tomcat",
        8,
        (
            *("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-cp", f"{_TOMCAT_HOME}/bin/bootstrap.jar:{_TOMCAT_HOME}/bin/tomcat-juli.jar"),
            *(f"-Dcatalina.home={_TOMCAT_HOME}", "-Dcatalina.base={folder}", "-Djava.io.tmpdir={folder}"),
            *("org.apache.catalina.startup.Bootstrap", "start"),
        ),
        {"conf/server.xml": _TOMCAT, "conf/web.xml": _TOMCAT_SERVLETS},
        paths=(f"{_TOMCAT_HOME}/bin/bootstrap.jar",),
    ),
]
