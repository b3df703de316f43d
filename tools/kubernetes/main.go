// Command kubernetes holds manifests against the types of Kubernetes: every document
// of the files that it is given must be an object of a kind that is used here, and
// have no field that its type has not. It is a module of its own so that these types
// are no dependency of Patrol.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	for _, name := range os.Args[1:] {
		if err := check(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func check(name string) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer func() { _ = documents.Close() }()
	buffer := make([]byte, len(content)+1)
	found := 0
	for {
		n, err := documents.Read(buffer)
		switch {
		case errors.Is(err, io.EOF) && found > 0:
			return nil
		case err != nil:
			return fmt.Errorf("read document %d: %w", found+1, err)
		}
		found++
		_, kind, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return fmt.Errorf("document %d: %w", found, err)
		}
		fmt.Println(kind.Kind)
	}
}
